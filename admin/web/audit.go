package web

import (
	"net/http"
	"strconv"

	"understudy/internal/store"
)

const auditLines = 100

// auditPage shows who looked at whose mail in a domain.
type auditPage struct {
	page
	List []store.AuditEntry
	Next string // path of the next page; "" on the last
}

func (s *Site) audit(w http.ResponseWriter, r *http.Request, u *user, d *store.Domain) error {
	before, err := strconv.ParseInt(r.FormValue("before"), 10, 64)
	if err != nil || before < 0 {
		before = 0
	}
	v := auditPage{page: s.domainPage(r, u, d, "audit")}
	if v.List, err = s.Store.Audit(r.Context(), d.Name, before, auditLines+1); err != nil {
		return err
	}
	if len(v.List) > auditLines {
		v.List = v.List[:auditLines]
		v.Next = domainPath(d.Name) + "/audit?before=" + itoa(v.List[auditLines-1].ID)
	}
	return render(w, r, http.StatusOK, auditView(v))
}

// did says an action in words.
func did(e store.AuditEntry) string {
	text := map[store.Action]string{store.ActionView: "read", store.ActionSource: "read the source of", store.ActionDownload: "downloaded",
		store.ActionRedeliver: "delivered again", store.ActionExport: "exported", store.ActionRetention: "set how long mail is kept"}[e.Action]
	if text == "" {
		text = string(e.Action)
	}
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text
}
