package sanitize

import (
	"strings"
	"testing"
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
			if got := HTML(c.in, none); strings.TrimSpace(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestPictures(t *testing.T) {
	t.Parallel()
	asked := ""
	r := HTML(`<img src="cid:logo%40x.test" alt="l"><img src="CID:gone">`, func(id string) (string, []byte, bool) {
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

func FuzzHTML(f *testing.F) {
	f.Add(`<p style="color:red" onclick=x><img src=cid:x><a href=javascript:x>`)
	f.Fuzz(func(t *testing.T, in string) {
		out := strings.ToLower(HTML(in, none))
		for _, bad := range []string{"<script", "<iframe", "<form", "<style", "<svg", "<meta", "<base", "<object", `href="javascript:`} {
			if strings.Contains(out, bad) {
				t.Errorf("%q has %s: %q", in, bad, out)
			}
		}
	})
}
