package web

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"understudy/internal/freeport"
	"understudy/internal/wait"
)

// tracker is a server that hostile mail wants to reach; nobody may. It counts
// connections, and those of them on which something was said.
func tracker(t *testing.T) (url string, connections, requests *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", freeport.For(t)) // no port that somebody else still tries
	if err != nil {
		t.Fatal(err)
	}
	connections, requests = &atomic.Int64{}, &atomic.Int64{}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			wg.Go(func() {
				defer c.Close()
				c.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // the read says it
				if n, _ := c.Read(make([]byte, 1)); n > 0 {
					requests.Add(1)
				}
			})
		}
	})
	return "http://" + l.Addr().String(), connections, requests
}

// hostile is a page that tries everything to run or to ask somebody.
func hostile(u string) string {
	return "From: Eve <eve@internet.test>\r\nTo: ana@example.test\r\nSubject: You have won\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" +
		strings.ReplaceAll(`<html><head><title>x</title><base href="U/"><meta http-equiv="refresh" content="0;url=U/refresh"><link rel="stylesheet" href="U/css">
<link rel="prefetch" href="U/prefetch"><link rel="dns-prefetch" href="U/"><style>@import url(U/import); body { background: url(U/bg) } @font-face { font-family: f; src: url(U/font) }</style>
<script src="U/script"></script><script>top.location = "U/top"; fetch("U/fetch"); new Image().src = "U/image"</script></head>
<body onload="location='U/onload'" background="U/background"><h2 id="headline">Dear Ana</h2><p style="color: #a4262c; background: url(U/style)">Your prize is waiting.</p>
<img src="U/img" onerror="location='U/onerror'"><img src=x onerror="fetch('U/x')"><img srcset="U/srcset 1x"><picture><source srcset="U/source"></picture>
<svg><image href="U/svg"/><script>fetch("U/svgscript")</script></svg><video src="U/video" poster="U/poster" autoplay></video><audio src="U/audio" autoplay></audio>
<iframe src="U/iframe"></iframe><object data="U/object"></object><embed src="U/embed"><form action="U/form" id="f"><input name="password" autofocus onfocus="fetch('U/focus')"><button>Claim</button></form>
<table background="U/table"><tr><td>cell</td></tr></table><a href="javascript:fetch('U/js')">claim</a> <a href="U/link" ping="U/ping">read more</a><details open ontoggle="fetch('U/toggle')">x</details>
<math><mtext></form><form><mglyph><style></math><img src onerror="fetch('U/mxss')"></body></html>`, "U", u) + "\r\n"
}

func TestBrowserHostileMail(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	u, asked, _ := tracker(t)
	id := s.archived(t, mail{Sender: "eve@internet.test", Mailboxes: []string{anaMail}, Body: hostile(u)})[0].String()
	b := newWindow(t, s)
	b.signIn(anaMail, pass, "where")
	b.click("archive-link", "messages")
	b.run(chromedp.Click(chromedp.CSS(`[data-testid="message-`+id+`"] a`)), chromedp.WaitVisible(chromedp.CSS("iframe")))
	b.says("remote", "Pictures from other servers are not loaded")
	b.frameReady()
	b.picture("message-hostile")
	// The frame alone, as the page of a tab: its own policy must hold.
	b.open("/archive/" + id + "/frame")
	b.run(chromedp.WaitVisible(chromedp.CSS("h2")))
	if n := b.number(`document.querySelectorAll("script, form, input, iframe, object, embed, svg, video, audio, meta[http-equiv], base, link, [onerror], [onload], [background], img[src^=http]").length`); n != 0 {
		t.Errorf("%d things that act are left", n)
	}
	if n := b.number(`document.body.innerText.includes("Your prize is waiting.") ? 1 : 0`); n != 1 {
		t.Error("the text is lost")
	}
	b.open("/archive/" + id + "?as=text")
	b.says("text", "Your prize is waiting.")
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests reached the sender", n)
	}
}

// TestBrowserUnsanitised has the second and the third wall alone: the frame
// with the same hostile page as it is, served with the frame's headers.
func TestBrowserUnsanitised(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	u, _, asked := tracker(t)
	_, page, _ := strings.Cut(hostile(u), "\r\n\r\n")
	// No policy stops a refresh, nor a connection ahead of need (rel=prefetch): only the sanitiser does.
	page = strings.Replace(page, `http-equiv="refresh"`, `http-equiv="x"`, 1)
	var srv http.Server
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.URL.Path == "/frame" {
			w.Header().Set("Content-Security-Policy", frameCSP)
			fmt.Fprint(w, page)
			return
		}
		w.Header().Set("Content-Security-Policy", csp+"; frame-src 'self'")
		fmt.Fprintf(w, `<p data-testid="ready">page</p><iframe src="/frame" sandbox="%s"></iframe>`, frameSandbox)
	})
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) }) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	b := openWindow(t, s, false)
	b.run(chromedp.Navigate("http://"+l.Addr().String()+"/"), chromedp.WaitVisible(id("ready")))
	b.frameReady()
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests reached the sender", n)
	}
}

// frameReady waits until a frame is there and has had time for what it must
// not do: the page is asked until a clock of its own has moved on.
func (b *window) frameReady() {
	b.t.Helper()
	b.run(chromedp.WaitVisible(chromedp.CSS("iframe")))
	began := b.number(`Math.floor(performance.now())`)
	wait.True(b.t, "the browser's clock moves on", func() bool { return b.number(`Math.floor(performance.now())`) >= began+700 })
}

func TestBrowserArchive(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, cluster)
	var mails []mail
	for i, subject := range []string{"Minutes of Monday", "Factura marzo", "Re: the garden party", "Your order 8841", "Factura abril"} {
		body := simple(subject, "Please find everything below.\r\n\r\nKind regards\r\nDora")
		if i == 1 {
			body = strings.Replace(odd, "=?utf-8?q?Ol=C3=A1?= <b>", "Factura marzo", 1)
		}
		mails = append(mails, mail{Sender: "dora@internet.test", Mailboxes: []string{anaMail}, Body: body})
	}
	ids := s.archived(t, append(mails, mail{Sender: "x@internet.test", Mailboxes: []string{brunoMail}, Body: simple("Factura of Bruno", "x")})...)
	b := newWindow(t, s)
	b.signIn(anaMail, pass, "where")
	b.click("archive-link", "messages")
	b.picture("archive")
	b.typeIn("query", "subject:factura")
	b.click("search", "redeliver-all")
	b.says("messages", "Factura marzo", "Factura abril")
	if strings.Contains(b.text("messages"), "Bruno") {
		t.Error("a colleague's mail is found")
	}
	b.typeIn("query", "factura size:big -garden")
	b.click("search", "wrong")
	b.says("wrong", "factura size:big -garden")
	b.says("place", "big")
	b.says("why", "size: wants > or <, such as")
	b.picture("archive-wrong")
	b.typeIn("query", "nowhere")
	b.click("search", "nothing")
	b.picture("archive-nothing")
	b.run(chromedp.Click(id("by-form")), chromedp.WaitVisible(id("form-subject")))
	b.picture("archive-form")
	b.typeIn("form-subject", "factura marzo")
	b.click("form-go", "messages")
	b.says("messages", "Factura marzo")
	b.open("/archive/" + ids[1].String())
	b.frameReady()
	b.says("files", "evil.html", ".exe")
	b.picture("message")
	b.click("as-text", "text")
	b.says("text", "plain <i>words</i>")
	b.open("/archive/" + ids[1].String() + "/source")
	b.says("source", "Subject: Factura marzo")
	b.picture("source")
	b.open("/archive/" + ids[5].String())
	b.says("error", "There is no such page")
}
