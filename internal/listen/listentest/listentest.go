// Package listentest serves on unix sockets in tests.
package listentest

import (
	"net"
	"net/http"
	"os"
	"testing"
)

// Serve serves HTTP on a unix socket until the test ends and returns its path.
// That is short, as it must be: not in the test's own directory.
func Serve(tb testing.TB, h http.Handler) (path string) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "socket-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		tb.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go server.Serve(l) //nolint:errcheck // ends with the test
	tb.Cleanup(func() { server.Close() })
	return dir + "/s"
}
