package shiptest

import (
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// Through returns the bucket as reached through a proxy that shows each
// answer of the server to see, before the client gets it.
func (s *Store) Through(tb testing.TB, see func(*http.Response)) *Store {
	tb.Helper()
	before, endpoint, _ := strings.Cut(s.Config.URL, "?endpoint=")
	u, err := url.Parse(endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = u.Scheme, u.Host, r.In.Host
		}, // the signature is of the host
		ModifyResponse: func(r *http.Response) error { see(r); return nil },
		ErrorLog:       log.New(tb.Output(), "", 0),
	}
	server := httptest.NewServer(proxy)
	tb.Cleanup(server.Close)
	through := *s
	through.Config.URL = before + "?endpoint=" + server.URL
	return &through
}
