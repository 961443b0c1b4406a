// Package password hashes and verifies the passwords of mailboxes and
// website accounts.
//
// Hashes are Argon2id (RFC 9106) in the PHC string format, so that any other
// software can read them. Passwords are prepared with the OpaqueString profile
// of PRECIS (RFC 8265 section 4.2) before hashing and before comparing: the
// same password typed on a Mac (decomposed accents) and on a PC (composed
// ones) is one password, and control characters are refused.
//
// Each computation takes 19 MiB; Verifier bounds how many run at once, and
// says ErrBusy rather than making everybody wait.
package password

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"golang.org/x/text/secure/precis"
)

// The lengths allowed for a new password, in octets of UTF-8 after
// preparation.
const (
	MinLength = 8
	MaxLength = 256
)

// What a password can be refused for. Their texts may be shown to users.
var (
	ErrTooShort  = fmt.Errorf("the password is too short: it needs at least %d characters", MinLength)
	ErrTooLong   = fmt.Errorf("the password is too long: at most %d bytes are possible", MaxLength)
	ErrCharacter = errors.New("the password contains a character that mail programs cannot send, such as a tab or a line break")
)

// ErrBadHash marks a stored hash that cannot be used: not Argon2id, damaged,
// or asking for more memory or time than we grant.
var ErrBadHash = errors.New("password hash is unusable")

// mainParams is what OWASP's password storage cheat sheet gives for Argon2id: 19
// MiB, two passes, one lane. About 20 ms on a 2024 server core.
var mainParams = &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// The most a stored hash may ask for. Without a limit one row of the database
// could take all memory.
const (
	maxMemory      = 256 * 1024 // KiB
	maxIterations  = 16
	maxParallelism = 16
)

// prepare applies PRECIS OpaqueString: Unicode NFC, other spaces become
// U+0020, no control characters and no unassigned code points.
func prepare(password string) (string, error) {
	if len(password) > 4*MaxLength { // NFC shortens at most so much; do not normalise a novel
		return "", ErrTooLong
	}
	p, err := precis.OpaqueString.String(password)
	switch {
	case err != nil && password != "" || !utf8.ValidString(password):
		return "", ErrCharacter
	case len(p) > MaxLength:
		return "", ErrTooLong
	}
	return p, nil
}

// Check says whether password may be set: MinLength to MaxLength octets, and
// nothing that a mail protocol cannot carry. Dovecot refuses a tab in a
// password itself; CR, LF and NUL cannot be sent at all.
func Check(password string) error {
	p, err := prepare(password)
	if err == nil && len(p) < MinLength {
		err = ErrTooShort
	}
	return err
}

// Hash checks a new password and returns its hash.
func Hash(password string) (string, error) {
	if err := Check(password); err != nil {
		return "", err
	}
	return hash(password, mainParams)
}

func hash(password string, params *argon2id.Params) (string, error) {
	p, err := prepare(password)
	if err != nil {
		return "", err
	}
	h, err := argon2id.CreateHash(p, params)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return h, nil
}

// Verify reports whether password is the one that was hashed. A password that
// could never have been set is simply wrong. The error is ErrBadHash.
//
// It takes 19 MiB and some 20 ms: where strangers can cause it, use Verifier.
func Verify(hash, password string) (bool, error) {
	params, salt, key, err := argon2id.DecodeHash(hash)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrBadHash, err)
	}
	if params.Memory < 8 || params.Memory > maxMemory || params.Iterations < 1 || params.Iterations > maxIterations ||
		params.Parallelism < 1 || params.Parallelism > maxParallelism || len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return false, fmt.Errorf("%w: m=%d,t=%d,p=%d, salt %d and key %d octets", ErrBadHash,
			params.Memory, params.Iterations, params.Parallelism, len(salt), len(key))
	}
	p, err := prepare(password)
	if err != nil {
		Waste("") // as long as for any other wrong password
		return false, nil
	}
	ok, err := argon2id.ComparePasswordAndHash(p, hash)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrBadHash, err)
	}
	return ok, nil
}
