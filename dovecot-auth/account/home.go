package account

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
)

// home is the directory of a mailbox: base/domain/local.
//
// A local part may hold nearly any character (RFC 5321 section 4.1.2), so
// what is not surely harmless in a path or in Dovecot's mail_location
// ('/', ':', '%', a leading '.', ...) is written as "=xx", as in RFC 2045.
// Names that would be longer than a file name may be end in a hash.
func home(base, canonical string) string {
	at := strings.LastIndexByte(canonical, '@')
	return filepath.Join(base, component(canonical[at+1:]), component(canonical[:at]))
}

// maxComponent leaves room below the 255 octets of Linux file systems.
const maxComponent = 200

func component(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' && i > 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('=')
		b.WriteString(hex.EncodeToString([]byte{c}))
	}
	if b.Len() <= maxComponent {
		return b.String()
	}
	sum := sha256.Sum256([]byte(s))
	return b.String()[:maxComponent-33] + "~" + hex.EncodeToString(sum[:16]) // '~' is in no other name
}
