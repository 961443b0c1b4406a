package web

import (
	"fmt"
	"net/http"

	"understudy/internal/mime"
	"understudy/internal/sanitize"
	"understudy/internal/store"
)

// frameCSP is for foreign HTML: it may look like something, and that is all.
// The sandbox gives it an origin of its own, no scripts and no forms; links
// open in another tab (https://html.spec.whatwg.org/#sandboxing).
const frameCSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; sandbox " + frameSandbox

const frameSandbox = "allow-popups allow-popups-to-escape-sandbox"

// pictures are the types that are shown within a message; SVG is a program.
var pictures = map[string]bool{"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/bmp": true}

// safe is the sanitised HTML of a message, with its own pictures in it.
func safe(m *mime.Message) string {
	return sanitize.HTML(m.HTML, func(id string) (string, []byte, bool) {
		for _, p := range m.Parts {
			if p.ContentID == id && pictures[p.Type] && p.Size >= 0 {
				return p.Type, p.Content, true
			}
		}
		return "", nil, false
	})
}

// messageFrame is the formatted message alone, for the frame in its page.
func (s *Site) messageFrame(w http.ResponseWriter, r *http.Request, u *user, m *store.MessageRow) error {
	if err := s.look(r.Context(), u, store.ActionView, m, ""); err != nil { // most often noted with its page
		return err
	}
	parsed, err := s.opened(r, u, m)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Security-Policy", frameCSP)
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, err = fmt.Fprintf(w, `<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="color-scheme" content="only light"><title>Message</title><style>
body { margin: 1rem; background: #fff; color: #1d2327; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; font: inherit; } img { max-width: 100%%; height: auto; } table { max-width: 100%%; }
</style></head><body>%s</body></html>`, safe(parsed))
	_ = err // the browser is gone
	return nil
}
