package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"understudy/admin/wording"
	"understudy/internal/password"
	"understudy/internal/store"
)

// ownPage is a person's own page: for a mailbox owner where the mail is, for
// everybody the password.
type ownPage struct {
	page
	Mailbox    *store.MailboxStatus // nil for an account
	Text       string               // where the mail is now
	Apps       []store.AppPassword
	Webmail    string
	IMAP       string
	Submission string
	NewApp     string // an app password that was just made: shown once
	NewLabel   string
}

func (s *Site) ownOf(r *http.Request, u *user) (ownPage, error) {
	v := ownPage{page: s.page(r, u, "Your account"), Webmail: s.WebmailURL, IMAP: s.IMAPAddress, Submission: s.SubmissionAddress}
	if u.mailbox == nil {
		return v, nil
	}
	v.Title = "Your mailbox"
	var err error
	if v.Mailbox, err = s.Store.MailboxStatus(r.Context(), u.mailbox.ID); err != nil {
		return v, err
	}
	v.Text = wording.Own(v.Mailbox)
	v.Apps, err = s.Store.AppPasswords(r.Context(), u.mailbox.Address)
	return v, err
}

func (s *Site) own(w http.ResponseWriter, r *http.Request, u *user) error {
	v, err := s.ownOf(r, u)
	if err != nil {
		return err
	}
	return render(w, r, http.StatusOK, ownView(v))
}

// ownProblem shows the page with what was refused.
func (s *Site) ownProblem(w http.ResponseWriter, r *http.Request, u *user, problem error) error {
	if !refused(problem) && !errors.Is(problem, errWrong) {
		return problem
	}
	v, err := s.ownOf(r, u)
	if err != nil {
		return err
	}
	if v.Problem = plain(problem); errors.Is(problem, errWrong) {
		v.Problem = "The present password is wrong. Nothing was changed."
	}
	return render(w, r, http.StatusUnprocessableEntity, ownView(v))
}

// ownPassword sets a new password for who knows the old one. All other
// sessions of the person end.
func (s *Site) ownPassword(w http.ResponseWriter, r *http.Request, u *user) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	client := clientAddress(r)
	if wait := s.throttle.take(u.Name, client); wait > 0 {
		return s.ownProblem(w, r, u, invalid("there were too many attempts; please wait %d seconds", int(wait.Seconds())))
	}
	if err := s.verifyOwn(r.Context(), u, r.PostFormValue("old")); err != nil {
		return s.ownProblem(w, r, u, err)
	}
	s.throttle.giveBack(u.Name, client)
	fresh := r.PostFormValue("new")
	if fresh != r.PostFormValue("again") {
		return s.ownProblem(w, r, u, invalid("the new password was typed differently the second time"))
	}
	hash, err := password.Hash(fresh)
	if err != nil {
		return s.ownProblem(w, r, u, err)
	}
	if u.account != nil {
		err = s.Store.SetAccount(r.Context(), u.account.Login, store.AccountChange{Hash: &hash})
		u.account.Hash = hash
	} else {
		err = s.Store.SetMailboxPassword(r.Context(), u.mailbox.Address, hash)
		u.mailbox.Hash = hash
	}
	if err != nil {
		return err
	}
	if err := s.begin(r.Context(), u); err != nil {
		return err
	}
	return s.done(w, r, "/me", "Your password is changed. Other browsers are signed out.")
}

func (s *Site) verifyOwn(ctx context.Context, u *user, plainText string) error {
	ok, err := s.verifier.Verify(ctx, u.hash(), plainText)
	if err == nil && !ok {
		return errWrong
	}
	return err
}

// ownAppAdd makes an app password and shows it once: it is no redirect.
func (s *Site) ownAppAdd(w http.ResponseWriter, r *http.Request, u *user) error {
	if u.mailbox == nil {
		return store.ErrNotFound
	}
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	label := strings.TrimSpace(r.PostFormValue("label"))
	plainText, hash, err := password.NewApp()
	if err != nil {
		return err
	}
	if err := s.Store.AddAppPassword(r.Context(), u.mailbox.Address, label, hash); err != nil {
		if errors.Is(err, store.ErrConflict) {
			err = invalid("there is an app password named %q; choose another name", label)
		}
		return s.ownProblem(w, r, u, err)
	}
	v, err := s.ownOf(r, u)
	if err != nil {
		return err
	}
	v.NewApp, v.NewLabel = plainText, label
	return render(w, r, http.StatusOK, ownView(v))
}

func (s *Site) ownAppRemove(w http.ResponseWriter, r *http.Request, u *user) error {
	if u.mailbox == nil {
		return store.ErrNotFound
	}
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	if err := s.Store.RemoveAppPassword(r.Context(), u.mailbox.Address, r.PostFormValue("label")); err != nil {
		return err
	}
	return s.done(w, r, "/me", "The app password is ended: what used it cannot sign in any more.")
}
