package web

import (
	"fmt"
	"net/http"
	"slices"

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

// picture finds the pictures of a message that may be shown within it.
func picture(m *mime.Message) sanitize.Picture {
	found := map[string]*mime.Part{}
	for i := range m.Parts {
		p := &m.Parts[i]
		if _, twice := found[p.ContentID]; !twice && p.ContentID != "" && pictures[p.Type] && p.Size >= 0 {
			found[p.ContentID] = p
		}
	}
	return func(id string) (string, []byte, bool) {
		p, ok := found[id]
		if !ok {
			return "", nil, false
		}
		return p.Type, p.Content, true
	}
}

// withoutShown are the parts that the formatted message does not show itself.
func withoutShown(m *mime.Message) []mime.Part {
	if !slices.ContainsFunc(m.Parts, func(p mime.Part) bool { return p.ContentID != "" }) {
		return m.Parts
	}
	shown := sanitize.Shown(m.HTML, picture(m))
	var out []mime.Part
	for _, p := range m.Parts {
		if shown[p.ContentID] && pictures[p.Type] && p.Size >= 0 {
			delete(shown, p.ContentID) // another part of this name is not shown
			continue
		}
		out = append(out, p)
	}
	return out
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
	clean, whole := sanitize.HTML(parsed.HTML, picture(parsed))
	if !whole {
		clean += "<hr><p>Not all of this message can be shown here. The download has every byte.</p>"
	}
	h := w.Header()
	h.Set("Content-Security-Policy", frameCSP)
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, err = fmt.Fprintf(w, `<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="color-scheme" content="only light"><title>Message</title><style>
body { margin: 1rem; background: #fff; color: #1d2327; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; font: inherit; } img { max-width: 100%%; height: auto; } table { max-width: 100%%; }
</style></head><body>%s</body></html>`, clean)
	_ = err // the browser is gone
	return nil
}
