package rig

import (
	"context"
	"errors"

	"understudy/internal/bench"
	"understudy/internal/stack"
)

// Gateway is a Postfix with policyd and milter, wired as an installation is;
// its domain's primary is smtp-sink.
type Gateway struct {
	*stack.Stack
	Sink *Sink
}

// StartGateway starts one. Set vars to override the roles' variables.
func StartGateway(ctx context.Context, e *bench.Env, vars stack.Variables) (*Gateway, error) {
	s, err := e.Stack(ctx, vars, stack.Postgres, stack.Policyd, stack.DovecotAuth, stack.Milter, stack.Postfix, stack.Admin)
	if err != nil {
		return nil, err
	}
	g := &Gateway{Stack: s}
	if g.Sink, err = StartSink(ctx, e.Dir, s.Info.Primary.SMTP); err != nil {
		return nil, errors.Join(err, g.Close(ctx))
	}
	return g, nil
}

// Close stops everything.
func (g *Gateway) Close(ctx context.Context) error {
	err := g.Down(context.WithoutCancel(ctx))
	if g.Sink != nil && g.Sink.Process != nil {
		err = errors.Join(err, g.Sink.Stop())
	}
	return err
}
