package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"understudy/internal/address"
	"understudy/internal/password"
	"understudy/internal/store"
)

// queryTime bounds the commands that only ask the database something.
const queryTime = 20 * time.Second

// env is what a command works with.
type env struct {
	ctx    context.Context
	config string
	json   bool
	in     io.Reader
	out    io.Writer
	err    io.Writer

	settings *Config
	store    *store.Store
	cancel   context.CancelFunc
}

// open reads the configuration, opens the database and sees that its schema
// fits. It bounds e.ctx: see queryTime.
func (e *env) open() (*store.Store, error) {
	s, err := e.openUnbounded()
	if err != nil {
		return nil, err
	}
	e.ctx, e.cancel = context.WithTimeout(e.ctx, queryTime)
	return s, nil
}

// openUnbounded is open for commands that may take long.
func (e *env) openUnbounded() (*store.Store, error) {
	c, err := loadConfig(e.config)
	if err != nil {
		return nil, err
	}
	e.settings = c
	pool, err := c.Database.PoolConfig()
	if err != nil {
		return nil, err
	}
	s, err := store.New(e.ctx, pool)
	if err != nil {
		return nil, err
	}
	e.store = s
	ctx, cancel := context.WithTimeout(e.ctx, queryTime)
	defer cancel()
	return s, s.Ready(ctx)
}

func (e *env) close() {
	if e.cancel != nil {
		e.cancel()
	}
	if e.store != nil {
		e.store.Close()
	}
}

// print writes v with --json, else the text.
func (e *env) print(v any, format string, args ...any) error {
	if !e.json {
		_, err := fmt.Fprintf(e.out, format+"\n", args...)
		return err
	}
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table writes v with --json, else rows with tabs between their cells under a
// head line.
func (e *env) table(v any, head string, rows []string) error {
	if e.json {
		return e.print(v, "")
	}
	w := tabwriter.NewWriter(e.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
	return w.Flush()
}

// progress tells a person that something long goes on.
func (e *env) progress(format string, args ...any) { fmt.Fprintf(e.err, format+"\n", args...) }

// done is what commands print that changed something.
type done struct {
	Done string `json:"done"`
	What string `json:"what"`
}

func (e *env) done(verb, what string) error { return e.print(done{verb, what}, "%s: %s", what, verb) }

// PasswordFlags are the ways to give a new password without it standing in
// the process list.
type passwordFlags struct {
	PasswordStdin bool `help:"Read the password from the first line of standard input." xor:"password"`
	Generate      bool `help:"Make a password and print it once." xor:"password"`
}

// read returns the password and its hash; both empty when none was asked for.
func (f *passwordFlags) read(in io.Reader) (plain, hash string, err error) {
	switch {
	case f.Generate:
		plain, _, err = password.NewApp()
	case f.PasswordStdin:
		plain, err = firstLine(in)
	default:
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	hash, err = password.Hash(plain)
	return plain, hash, err
}

// required is read for commands that need a password.
func (f *passwordFlags) required(in io.Reader) (plain, hash string, err error) {
	if !f.PasswordStdin && !f.Generate {
		return "", "", usage("give the password with --password-stdin (printf '%%s\\n' ... | understudy-admin ...), or --generate one")
	}
	return f.read(in)
}

func firstLine(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password from standard input: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("read password from standard input: it is empty")
	}
	return line, nil
}

// mailboxAddress gives an address of a command line its one form.
func mailboxAddress(s string) (string, error) {
	a, err := address.Parse(s)
	if err == nil && a.IsZero() {
		err = fmt.Errorf("%w: %q", address.ErrInvalid, s)
	}
	if err != nil {
		return "", usage("%v", err)
	}
	if a.Detail != "" {
		return "", usage("%s: leave out \"+%s\"; such addresses reach the mailbox by themselves", s, a.Detail)
	}
	return a.String(), nil
}

func domainName(s string) (string, error) {
	d, err := address.Domain(s)
	if err != nil {
		return "", usage("%v", err)
	}
	return d, nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
