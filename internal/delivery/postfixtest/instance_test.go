package postfixtest

import "testing"

func TestLastOnly(t *testing.T) {
	t.Parallel()
	const text, want = "a = 1\n\tgoes on\n# comment\nb =\n  goes on\naa = 1\na = 2\n", "# comment\nb =\n  goes on\naa = 1\na = 2\n"
	if got := lastOnly(text); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
