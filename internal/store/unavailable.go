package store

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Unavailable reports that err comes from a database that could not be
// reached or did not answer in time, so that the same call may work later.
// Anything that the server said about the statement itself is something else.
func Unavailable(err error) bool {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return false
	case errors.As(err, &pg):
		// Classes 08 connection, 53 resources, 57 operator intervention (shutdown, starting up).
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "57")
	}
	for _, known := range []error{ErrNotFound, ErrConflict, ErrInvalid, ErrSchema} {
		if errors.Is(err, known) {
			return false
		}
	}
	var connect *pgconn.ConnectError
	var network *net.OpError
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}

// ForeignSchema reports that a statement met a table or a column that is not
// there: the database was not migrated, or by another release. Ready says
// which.
func ForeignSchema(err error) bool {
	return isCode(err, "42P01") || isCode(err, "42703") // undefined_table, undefined_column
}
