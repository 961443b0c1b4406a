// Package passwordtest hashes passwords at no cost, for tests in which many
// people log in and the cost of one login is not the question.
package passwordtest

import "github.com/alexedwards/argon2id"

// The least that argon2 knows.
var params = &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// Hash is a hash of plain, in Unicode's NFC, which package password verifies.
func Hash(plain string) string {
	h, err := argon2id.CreateHash(plain, params)
	if err != nil {
		panic(err) // no random numbers
	}
	return h
}
