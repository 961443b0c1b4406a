// Package matrix measures what becomes of a message when a primary fails, row
// by row: on real Postfix, Dovecot, policyd and milter (a scratch stack), with
// primaries that do exactly what a script says (RFC 5321, RFC 3207), in a
// mount namespace of its own whose resolver is the test's (RFC 1035).
//
// The table in docs/failures.md is written by this test:
//
//	go test ./internal/matrix -update
//
// and without -update the test fails when an outcome is another one.
package matrix
