package password

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		password string
		want     error
	}{
		"eight octets":             {"abcdefgh", nil},
		"seven octets":             {"abcdefg", ErrTooShort},
		"empty":                    {"", ErrTooShort},
		"spaces inside and around": {" correct horse ", nil},
		"256 octets":               {strings.Repeat("x", 256), nil},
		"257 octets":               {strings.Repeat("x", 257), ErrTooLong},
		"a megabyte":               {strings.Repeat("x", 1<<20), ErrTooLong},
		"too long only decomposed": {strings.Repeat("e\u0301", 100), nil},
		"umlauts count as two":     {"üüüü", nil},
		"emoji":                    {"🦊🦊🦊", nil},
		"tab":                      {"abcd\tefgh", ErrCharacter},
		"CR":                       {"abcd\refgh", ErrCharacter},
		"LF":                       {"abcdefgh\n", ErrCharacter},
		"NUL":                      {"abcd\x00efgh", ErrCharacter},
		"the protocol's escape":    {"abcd\x01efgh", ErrCharacter},
		"not UTF-8":                {"abcd\xffefgh", ErrCharacter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := Check(tc.password); !errors.Is(err, tc.want) {
				t.Errorf("Check = %v, want %v", err, tc.want)
			}
			if h, err := Hash(tc.password); (err == nil) != (tc.want == nil) {
				t.Errorf("Hash = %q, %v; Check said %v", h, err, tc.want)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	h, err := Hash("caf\u00e9 na\u00efve") // composed
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(h, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s has other parameters", h)
	}
	for password, want := range map[string]bool{
		"caf\u00e9 na\u00efve":        true,
		"cafe\u0301 nai\u0308ve":      true,  // decomposed, as a Mac sends it
		"caf\u00e9\u00a0na\u00efve":   true,  // a non-ASCII space is a space
		"Caf\u00e9 na\u00efve":        false, // case matters
		"caf\u00e9 na\u00efve ":       false,
		"":                            false,
		"caf\u00e9\tna\u00efve":       false,
		"caf\xe9 na\xefve":            false, // Latin-1
		strings.Repeat("x", 100*1000): false,
	} {
		if got, err := Verify(h, password); err != nil || got != want {
			t.Errorf("Verify(%.20q) = %v, %v, want %v", password, got, err, want)
		}
	}
}

// A vector of the reference implementation in C:
// echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32
func TestVerifyForeignHash(t *testing.T) {
	t.Parallel()
	const h = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := Verify(h, "password"); !ok || err != nil {
		t.Errorf("Verify = %v, %v", ok, err)
	}
	if ok, err := Verify(h, "passwort"); ok || err != nil {
		t.Errorf("Verify of another password = %v, %v", ok, err)
	}
}

func TestVerifyUnusableHash(t *testing.T) {
	t.Parallel()
	const salt, key = "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for _, h := range []string{
		"", "secret", "{SHA512-CRYPT}$6$x$y", "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe",
		"$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=16$m=19456,t=2,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=4294967295,t=2,p=1$" + salt + "$" + key, // 4 TiB
		"$argon2id$v=19$m=19456,t=4000000000,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$AAAA",
		"$argon2id$v=19$m=19456,t=2,p=1$$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$",
	} {
		if ok, err := Verify(h, "password"); ok || !errors.Is(err, ErrBadHash) {
			t.Errorf("Verify with hash %q = %v, %v, want ErrBadHash", h, ok, err)
		}
	}
}

func TestNewApp(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{5}(-[0-9a-hjkmnp-tv-z]{5}){4}$`)
	seen := map[string]bool{}
	for range 100 {
		p, h, err := NewApp()
		if err != nil || !form.MatchString(p) || seen[p] {
			t.Fatalf("NewApp = %q, %v", p, err)
		}
		seen[p] = true
		if err := Check(p); err != nil {
			t.Errorf("Check(%q) = %v", p, err)
		}
		if ok, err := Verify(h, p); !ok || err != nil {
			t.Errorf("Verify(%q, %q) = %v, %v", h, p, ok, err)
		}
	}
}
