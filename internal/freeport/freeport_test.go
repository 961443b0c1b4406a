package freeport

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain is also the process that TestOthersGetOthers starts.
func TestMain(m *testing.M) {
	if os.Getenv("FREEPORT_CHILD") == "" {
		os.Exit(m.Run())
	}
	for range 50 {
		a, err := Address()
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(a + "\n")
	}
	os.Stdin.Read(make([]byte, 1)) // lives, and with it the locks, until the parent has seen enough
}

// TestOthersGetOthers: no two processes get the same port while both live.
func TestOthersGetOthers(t *testing.T) {
	t.Parallel()
	var outs []*strings.Builder
	var ends []func()
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "FREEPORT_CHILD=1")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out := &strings.Builder{}
		buf := make([]byte, 4096)
		for strings.Count(out.String(), "\n") < 50 {
			n, err := stdout.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(buf[:n])
		}
		outs = append(outs, out)
		ends = append(ends, func() {
			stdin.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	seen := map[string]bool{}
	for _, out := range outs {
		for a := range strings.Lines(out.String()) {
			if seen[a] {
				t.Errorf("%s was given twice", a)
			}
			seen[a] = true
		}
	}
	for _, end := range ends {
		end()
	}
	for a := range seen { // and somebody can listen there
		l, err := net.Listen("tcp", strings.TrimSpace(a))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		break
	}
}
