package sanitize

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func none(string) (string, []byte, bool) { return "", nil, false }

func TestHTML(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"text", `<p>Hello <b>you</b></p>`, `<p>Hello <b>you</b></p>`},
		{"script", `a<script>alert(1)</script>b`, `ab`},
		{"event", `<div onclick="x()">a</div>`, `<div>a</div>`},
		{"javascript link", `<a href="javascript:x()">a</a>`, `<a>a</a>`},
		{"data link", `<a href="data:text/html,x">a</a>`, `<a>a</a>`},
		{"link", `<a href="https://x.test/">a</a>`, `<a href="https://x.test/" rel="nofollow noreferrer noopener" target="_blank">a</a>`},
		{"relative link", `<a href="/domains/x">a</a>`, `<a>a</a>`},
		{"remote picture", `<img src="http://x.test/p.png" alt="logo">`, `<img alt="logo">`},
		{"data picture", `<img src="data:image/svg+xml,x">`, ``},
		{"srcset", `<img srcset="http://x.test/p.png 2x" alt="a">`, `<img alt="a">`},
		{"form", `<form action="/x"><input name=a><button>go</button></form>`, `go`},
		{"frame", `<iframe src="http://x.test/"></iframe><object data="x"></object><embed src=x>`, ``},
		{"meta and base", `<meta http-equiv=refresh content="0;url=http://x.test"><base href="http://x.test/"><link rel=stylesheet href=x>a`, `a`},
		{"style sheet", `<style>@import url(http://x.test)</style>a`, `a`},
		{"style", `<p style="color: red; background-image: url(http://x.test); position: fixed">a</p>`, `<p style="color: red">a</p>`},
		{"style with url", `<p style="background-color: url(http://x.test)">a</p>`, `<p>a</p>`},
		{"svg", `<svg onload=x()><a href="javascript:x()">a</a></svg>`, `<a>a</a>`},
		{"math", `<math><mtext><style><img src=x onerror=y()></style></mtext></math>`, ``},
		{"comment", `a<!--[if mso]><script>x()</script><![endif]-->b`, `ab`},
		{"not closed", `<p title="a`, ``},
		{"table attributes", `<td bgcolor="#fff" width="100%" background="http://x.test">a</td>`, `<td bgcolor="#fff" width="100%">a</td>`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got, whole := HTML(c.in, none); !whole || strings.TrimSpace(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestPictures(t *testing.T) {
	t.Parallel()
	asked := ""
	r, _ := HTML(`<img src="cid:logo%40x.test" alt="l"><img src="CID:gone">`, func(id string) (string, []byte, bool) {
		if id == "gone" {
			return "", nil, false
		}
		asked = id
		return "image/png", []byte("abc"), true
	})
	if want := `<img src="data:image/png;base64,YWJj" alt="l"><img src="data:,">`; r != want || asked != "logo@x.test" || Remote(r) {
		t.Errorf("got %s, asked for %q", r, asked)
	}
	if !Remote(`<IMG width=1 src='//x.test/1'>`) {
		t.Error("a picture of another server is not noticed")
	}
}

// TestShown: only what HTML really makes part of the page.
func TestShown(t *testing.T) {
	t.Parallel()
	large := make([]byte, maxPictures/2)
	picture := func(id string) (string, []byte, bool) {
		if strings.HasPrefix(id, "large") {
			return "image/png", large, true
		}
		return "image/png", []byte(id), !strings.HasPrefix(id, "no")
	}
	got := Shown(`<p title=' src="data:,7" cid:title'>1 2 cid:text src="data:,5"<img alt="x" src="cid:a%40x"><IMG SRC=' CID:b '><img src="cid:nothing"><img src="data:,9">
		<style>p { background: url(cid:css) }</style><p style="background: url(cid:style)">x</p><object><img src="cid:object"></object><!-- <img src="cid:comment"> -->
		<img src="cid:large"><img src="cid:large2">`, picture)
	if diff := cmp.Diff(map[string]bool{"a@x": true, "b": true, "large": true}, got); diff != "" {
		t.Error(diff)
	}
}

// TestEscapes: a style that costs too much goes, whatever it is written with,
// and the rest stays.
func TestEscapes(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	for name, c := range map[string]struct{ in, want string }{
		"one value":            {`<b style="color:` + strings.Repeat(`\61`, size/3) + `" title="t">a</b>`, `<b title="t">a</b>`},
		"in capitals":          {`<B STYLE='color:` + strings.Repeat(`\61 `, size/4) + `' TITLE=t>a</B>`, `<b title="t">a</b>`},
		"references":           {`<b style="color:` + strings.Repeat(`&#92;61`, 1000) + `">a</b>`, ``},
		"many values":          {strings.Repeat(`<b style="color:`+strings.Repeat(`\61`, 300)+`;color:red">a</b>`, size/1000), ``},
		"few escapes":          {strings.Repeat(`<b style="color:`+strings.Repeat(`\61`, 8)+`">a</b>`, size/50), ``},
		"long values":          {strings.Repeat(`<b style="font-family:`+strings.Repeat(`a,`, 4000)+`">a</b>`, size/8000), ``},
		"many properties":      {strings.Repeat(`<b style="`+strings.Repeat(`color:red;`, 800)+`">a</b>`, size/8000), ``},
		"one long, good value": {`<b style="` + strings.Repeat("color: red; ", 600) + `">a</b>`, `<b style="` + strings.TrimSuffix(strings.Repeat("color: red; ", 600), "; ") + `">a</b>`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			limit := cleanTime
			if c.want != "" { // it is quick but for a busy machine
				limit = time.Minute
			}
			got, whole := within(limit, c.in, none)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
			if c.want != "" && (got != c.want || !whole) {
				t.Errorf("got %.200s, whole %v", got, whole)
			}
		})
	}
}

// TestLate: of a page that takes too long there is the begin.
func TestLate(t *testing.T) {
	t.Parallel()
	in := newStyled(strings.Repeat("<p>x</p>", 10), time.Now().Add(-time.Second))
	if got := styledPolicy().SanitizeReader(in).String(); got != "" || !in.late {
		t.Errorf("%q, late %v", got, in.late)
	}
}

func FuzzHTML(f *testing.F) {
	f.Add(`<p style="color:red" onclick=x><img src=cid:x><a href=javascript:x>`)
	f.Fuzz(func(t *testing.T, in string) {
		clean, _ := HTML(in, none)
		out := strings.ToLower(clean)
		for _, bad := range []string{"<script", "<iframe", "<form", "<style", "<svg", "<meta", "<base", "<object", `href="javascript:`} {
			if strings.Contains(out, bad) {
				t.Errorf("%q has %s: %q", in, bad, out)
			}
		}
	})
}
