package cli

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"understudy/internal/config"
	"understudy/internal/store"
)

func TestRedeliver(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/redeliver", Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"sql": sqlCmd, "archived": archivedCmd, "admin": adminCmd, "worked": workedCmd}})
}

// workedCmd does what worker does for a redelivery, with one outcome for all.
func workedCmd(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	pool, err := (&config.Database{URL: ts.Getenv("DATABASE")}).PoolConfig()
	ts.Check(err)
	s, err := store.New(ctx, pool)
	ts.Check(err)
	defer s.Close()
	number, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	var r *store.Redelivery
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if r, err = s.Redelivery(ctx, number); !errors.Is(err, store.ErrNotFound) {
			break
		}
	}
	ts.Check(err)
	if r.State == store.RedeliveryCollecting {
		ts.Check(s.CollectRedelivery(ctx, r))
	}
	items, err := s.DueItems(ctx, r.ID, "", 100)
	ts.Check(err)
	for _, i := range items {
		_, err := s.BeginItem(ctx, i)
		ts.Check(err)
		if args[1] == "sent" {
			ts.Check(s.ItemSent(ctx, i, "250 ok"))
		} else {
			ts.Check(s.ItemFailed(ctx, i, "550 no such user"))
		}
	}
	_, err = s.FinishRedelivery(ctx, r.ID)
	ts.Check(err)
}
