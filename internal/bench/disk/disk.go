// Package disk measures the archive's size: bytes in the segments, and in the
// tables of the index, for a byte of mail.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"understudy/internal/bench"
	"understudy/internal/bench/mail"
	"understudy/internal/bench/rig"
	"understudy/internal/stack"
	"understudy/internal/wait"
)

// set is some mail of one kind.
type set struct {
	name string
	next func() []byte // nil when there is no more
}

// Run measures the corpora, if there are any, and generated mail.
func Run(ctx context.Context, e *bench.Env) (err error) {
	s, err := e.Stack(ctx, nil, stack.Postgres, stack.Admin, stack.Worker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Down(context.WithoutCancel(ctx))) }()
	sets := generated(e)
	corpora, err := corpora(e)
	if err != nil {
		return err
	}
	for _, x := range append(corpora, sets...) {
		if err := measure(ctx, e, s, x); err != nil {
			return fmt.Errorf("%s: %w", x.name, err)
		}
	}
	return nil
}

// measure archives a set and waits until the worker has indexed it.
func measure(ctx context.Context, e *bench.Env, s *stack.Stack, x set) error {
	conn, err := pgx.Connect(ctx, s.Info.Postgres)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // best effort
	count, before, err := indexSize(ctx, conn)
	if err != nil {
		return err
	}
	stored, err := mail.Archive(ctx, s.Info.Archive, x.next)
	if err != nil {
		return err
	}
	e.Say("%s: indexing %d messages", x.name, stored.Messages)
	if err := indexed(ctx, conn, count+stored.Messages); err != nil {
		return err
	}
	_, after, err := indexSize(ctx, conn)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s, %d messages, %.1f MB", x.name, stored.Messages, float64(stored.Bytes)/1e6)
	e.Report.Add(e.Result(name, "log, bytes for a byte of mail", float64(stored.Log)/float64(stored.Bytes), ""))
	e.Report.Add(e.Result(name, "index, bytes for a byte of mail", float64(after-before)/float64(stored.Bytes), ""))
	return nil
}

// indexed waits until the index holds so many messages, and its words are
// where they stay.
func indexed(ctx context.Context, conn *pgx.Conn, messages int) error {
	err := wait.For(ctx, 15*time.Minute, rig.Poll, func() error {
		n, _, err := indexSize(ctx, conn)
		if err == nil && n < messages {
			err = fmt.Errorf("%d of %d messages are indexed", n, messages)
		}
		return err
	})
	if err == nil {
		_, err = conn.Exec(ctx, "VACUUM message, message_mailbox, posting_recent")
	}
	return err
}

// indexSize is how many messages the index has and what the database's tables
// take on disk, their indexes included.
func indexSize(ctx context.Context, conn *pgx.Conn) (messages int, bytes int64, err error) {
	const sql = `SELECT (SELECT count(*) FROM message), sum(pg_total_relation_size(oid))::bigint FROM pg_class
		WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`
	err = conn.QueryRow(ctx, sql).Scan(&messages, &bytes)
	return messages, bytes, err
}

// corpora are the directories in MAIL_CORPUS, by default the shared corpus
// beside the module. Without them only generated mail is measured.
func corpora(e *bench.Env) ([]set, error) {
	dir := os.Getenv("MAIL_CORPUS")
	if dir == "" {
		dir = filepath.Join(e.Repo, "../shared/corpus")
	}
	parts, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("MAIL_CORPUS") == "" {
		e.Say("no corpus: set MAIL_CORPUS to a directory of messages")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []set
	for _, part := range parts {
		if !part.IsDir() {
			continue
		}
		var files []string
		err := filepath.WalkDir(filepath.Join(dir, part.Name()), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if e.Short {
			files = files[:min(len(files), 20)]
		}
		if len(files) > 0 {
			all = append(all, set{"corpus " + part.Name(), reader(files)})
		}
	}
	return all, nil
}

// reader returns the files' contents one by one; one that cannot be read is
// left out.
func reader(files []string) func() []byte {
	return func() []byte {
		for len(files) > 0 {
			text, err := os.ReadFile(files[0])
			files = files[1:]
			if err == nil && len(text) > 0 {
				return text
			}
		}
		return nil
	}
}

// generated are sets of generated mail.
func generated(e *bench.Env) []set {
	g := mail.New(1)
	times := func(n int, make func(i int) []byte) func() []byte {
		i := 0
		return func() []byte {
			if i == n {
				return nil
			}
			i++
			return make(i)
		}
	}
	n := e.Size(2000, 20)
	return []set{
		{"text, 5 KB", times(5*n, func(int) []byte { return g.Text(5000) })},
		{"PDF, 100 KB", times(n, func(int) []byte { return g.Attached(mail.PDF, 75_000) })},
		{"JPEG, 100 KB", times(n, func(int) []byte { return g.Attached(mail.JPEG, 75_000) })},
		{"office document, 100 KB", times(n, func(int) []byte { return g.Attached(mail.DOCX, 75_000) })},
		{"mixed", times(2*n, func(i int) []byte {
			switch i % 10 { // three of ten have a file
			case 0:
				return g.Attached(mail.PDF, 150_000)
			case 3:
				return g.Attached(mail.JPEG, 300_000)
			case 6:
				return g.Attached(mail.DOCX, 40_000)
			}
			return g.Text(3000 + i%7*1500)
		})},
	}
}
