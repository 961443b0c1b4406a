package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"understudy/admin/wording"
	"understudy/internal/address"
	"understudy/internal/query"
	"understudy/internal/store"
)

const (
	planLimit       = 5_000 // messages that a confirmation counts
	refreshSeconds  = "2"
	redeliveryLines = 50
)

// redeliverPage asks for confirmation of a redelivery.
type redeliverPage struct {
	page
	Order store.NewRedelivery
	Plan  *store.RedeliveryPlan
	Steps []string // what goes where now
	Back  string
	Owner bool
}

// order reads what is to be delivered again. Ids and mailboxes that the user
// may not see find nothing.
func order(r *http.Request, u *user) (store.NewRedelivery, error) {
	n := store.NewRedelivery{Actor: u.Name, Access: u.access(), Query: strings.TrimSpace(r.Form.Get("q")), Record: u.account != nil}
	for _, text := range r.Form["id"] {
		id, err := uuid.Parse(text)
		if err != nil {
			return n, store.ErrNotFound
		}
		n.Messages = append(n.Messages, id)
	}
	if len(n.Messages) > 0 {
		n.Query = ""
	}
	if text := strings.TrimSpace(r.Form.Get("mailbox")); text != "" && u.account != nil {
		a, err := address.Parse(text)
		if err != nil || a.IsZero() {
			return n, invalid("%.100q is no address", text)
		}
		n.Mailbox = a.String()
	}
	return n, nil
}

func (s *Site) redeliverConfirm(w http.ResponseWriter, r *http.Request, u *user) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	v := redeliverPage{page: s.page(r, u, "Deliver again"), Owner: u.account == nil}
	var err error
	if v.Order, err = order(r, u); err != nil {
		return err
	}
	v.Back = archivePath(v.Order.Query, "")
	if r.Form.Has("chosen") { // of a result list, by its check boxes
		v.Back = archivePath(strings.TrimSpace(r.Form.Get("back")), "")
		if len(v.Order.Messages) == 0 { // never the whole archive for want of a tick
			http.Redirect(w, r, v.Back, http.StatusSeeOther)
			return nil
		}
	} else if len(v.Order.Messages) > 0 {
		v.Back = "/archive/" + v.Order.Messages[0].String()
	}
	var wrong *query.Error
	if v.Plan, err = s.Store.PlanRedelivery(r.Context(), v.Order, planLimit); errors.As(err, &wrong) {
		http.Redirect(w, r, v.Back, http.StatusSeeOther) // the search shows what is wrong
		return nil
	} else if err != nil {
		return err
	}
	v.Steps = wording.Redelivery(v.Plan)
	v.Title = question(v.Plan, len(v.Steps))
	return render(w, r, http.StatusOK, redeliverView(v))
}

// question is what a plan of some steps asks.
func question(p *store.RedeliveryPlan, steps int) string {
	switch {
	case steps == 0:
		return "Nothing to deliver"
	case p.More:
		return fmt.Sprintf("Deliver more than %d messages again?", p.Messages)
	case p.Messages == 1:
		return "Deliver this message again?"
	}
	return fmt.Sprintf("Deliver %d messages again?", p.Messages)
}

func (s *Site) redeliver(w http.ResponseWriter, r *http.Request, u *user) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	n, err := order(r, u)
	if err != nil {
		return err
	}
	order, err := s.Store.Redeliver(r.Context(), n)
	if err != nil {
		return err
	}
	s.Log.Info("redelivery asked for", "redelivery", order.ID, "login", u.Name)
	http.Redirect(w, r, redeliveryPath(order.ID), http.StatusSeeOther)
	return nil
}

func redeliveryPath(id int64) string { return "/redeliveries/" + itoa(id) }

// redeliveryPage shows how far a redelivery has come.
type redeliveryPage struct {
	page
	*store.Redelivery
	Failures []store.RedeliveryItem
	Retries  []store.RedeliveryItem
}

func (s *Site) redelivery(w http.ResponseWriter, r *http.Request, u *user) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return store.ErrNotFound
	}
	v := redeliveryPage{page: s.page(r, u, "Delivering again")}
	if v.Redelivery, err = s.Store.Redelivery(r.Context(), id); err != nil {
		return err
	}
	if !u.operator() && v.Actor != u.Name {
		return store.ErrNotFound
	}
	if err := s.items(r.Context(), &v); err != nil {
		return err
	}
	if v.State != store.RedeliveryDone {
		w.Header().Set("Refresh", refreshSeconds) // the site has no scripts
	}
	return render(w, r, http.StatusOK, redeliveryView(v))
}

func (s *Site) items(ctx context.Context, v *redeliveryPage) (err error) {
	if v.Failures, err = s.Store.FailedItems(ctx, v.ID, redeliveryLines); err != nil {
		return err
	}
	v.Retries, err = s.Store.RetriedItems(ctx, v.ID, redeliveryLines)
	return err
}

// redeliveriesPage lists redeliveries, the newest first.
type redeliveriesPage struct {
	page
	List []store.Redelivery
}

func (s *Site) redeliveries(w http.ResponseWriter, r *http.Request, u *user) error {
	actor := u.Name
	if u.operator() {
		actor = ""
	}
	list, err := s.Store.Redeliveries(r.Context(), actor, redeliveryLines)
	if err != nil {
		return err
	}
	return render(w, r, http.StatusOK, redeliveriesView(redeliveriesPage{s.page(r, u, "Delivered again"), list}))
}

// what says what a redelivery is of.
func what(r *store.Redelivery) string {
	text := "chosen messages"
	switch {
	case r.Query != "":
		text = "all found by " + r.Query
	case r.State == store.RedeliveryCollecting:
		text = "the whole archive"
	}
	if r.Mailbox != "" {
		text += ", to " + r.Mailbox
	}
	return text
}

func stateText(r *store.Redelivery) string {
	switch {
	case r.State == store.RedeliveryCollecting:
		return fmt.Sprintf("Collecting the messages: %d so far", r.Total)
	case r.State == store.RedeliverySending:
		return fmt.Sprintf("%d of %d delivered", r.Done, r.Total)
	case r.Failed > 0:
		return fmt.Sprintf("Finished: %d of %d delivered, %d could not be", r.Done, r.Total, r.Failed)
	}
	return fmt.Sprintf("Finished: %d of %d delivered", r.Done, r.Total)
}

func hiddenIDs(ids []uuid.UUID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

func redeliverPath(m *store.MessageRow) string {
	return "/archive/redeliver?" + url.Values{"id": {m.ID.String()}}.Encode()
}
