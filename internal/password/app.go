package password

import (
	"crypto/rand"
	"strings"

	"github.com/alexedwards/argon2id"
)

// appParams is cheap on purpose: an app password has 125 random bits, which
// no amount of guessing finds, so stretching it would only cost us. A mailbox
// may have many of them and each is tried at a login.
var appParams = &argon2id.Params{Memory: 256, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// appAlphabet is lower-case Base32 without letters that are mistaken for
// others (no i, l, o, u).
const appAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const (
	appGroups = 5
	appGroup  = 5
)

// NewApp makes an app password, such as "k3f9x-...", and its hash (credential
// kind "app"). The password is shown to its owner once and stored nowhere.
func NewApp() (password, hashed string, err error) {
	random := make([]byte, appGroups*appGroup)
	rand.Read(random) // never fails, see its documentation
	var b strings.Builder
	for i, r := range random {
		if i > 0 && i%appGroup == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(appAlphabet[r%byte(len(appAlphabet))])
	}
	hashed, err = hash(b.String(), appParams)
	return b.String(), hashed, err
}
