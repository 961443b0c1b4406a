package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"understudy/internal/address"
	"understudy/internal/password"
	"understudy/internal/store"
)

// user is who has signed in: an account or a mailbox owner.
type user struct {
	Name    string
	account *store.Account
	mailbox *store.MailboxLogin
}

func (u *user) operator() bool { return u.account != nil && u.account.Role == store.Operator }

// viewer is zero, which sees no domain, for a mailbox owner.
func (u *user) viewer() store.Viewer {
	if u.account == nil {
		return store.Viewer{}
	}
	return store.AccountViewer(u.account.ID)
}

func (u *user) hash() string {
	if u.account != nil {
		return u.account.Hash
	}
	return u.mailbox.Hash
}

// role says it in the words of the page.
func (u *user) role() string {
	switch {
	case u.account == nil:
		return "mailbox owner"
	case u.operator():
		return "operator"
	}
	return "domain admin"
}

// What a sign-in can fail with, beside the database.
var (
	errWrong     = errors.New("login or password is wrong")
	errThrottled = errors.New("too many attempts")
)

// maxLogin bounds what is kept of a login, in bytes.
const maxLogin = 320

// authenticate finds who has this login and password. An app password is none
// of them. wait is set with errThrottled.
func (s *Site) authenticate(ctx context.Context, login, plain, client string) (u *user, wait time.Duration, err error) {
	login = strings.ToLower(strings.TrimSpace(login))
	if login == "" || len(login) > maxLogin || plain == "" {
		return nil, 0, errWrong
	}
	if wait := s.throttle.take(login, client); wait > 0 {
		s.signIns.WithLabelValues("throttled").Inc()
		return nil, wait, errThrottled
	}
	candidates, err := s.candidates(ctx, login)
	if err != nil {
		return nil, 0, err
	}
	err = s.verifier.Do(ctx, func(context.Context) error {
		if len(candidates) == 0 {
			password.Waste(plain)
		}
		for _, c := range candidates {
			ok, err := password.Verify(c.hash(), plain)
			if err != nil {
				s.Log.Error("stored password hash cannot be used", "login", c.Name, "error", err)
			}
			if ok {
				u = c
				return nil
			}
		}
		return errWrong
	})
	switch {
	case errors.Is(err, password.ErrBusy):
		s.signIns.WithLabelValues("busy").Inc()
	case err != nil:
		s.signIns.WithLabelValues("wrong").Inc()
		s.Log.Info("wrong sign-in", "login", login, "client", client)
	default:
		s.signIns.WithLabelValues("ok").Inc()
		s.throttle.giveBack(login, client)
	}
	return u, 0, err
}

// candidates are the account and the mailbox of a login, each with a password.
func (s *Site) candidates(ctx context.Context, login string) ([]*user, error) {
	var out []*user
	a, err := s.Store.Account(ctx, login)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		out = append(out, &user{Name: a.Login, account: a})
	}
	addr, err := address.Parse(login)
	if err != nil || addr.IsZero() {
		return out, nil
	}
	m, err := s.Store.MailboxLogin(ctx, addr.String())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if err == nil && m.Enabled && m.Hash != "" {
		out = append(out, &user{Name: m.Address, mailbox: m})
	}
	return out, nil
}

// The keys of a session.
const (
	keyKind  = "kind" // "account" or "mailbox"
	keyID    = "id"
	keyMark  = "mark" // of the password at sign-in: a new password ends all older sessions
	keyFlash = "flash"
)

func mark(hash string) string {
	sum := sha256.Sum256([]byte("session mark\x00" + hash))
	return hex.EncodeToString(sum[:16])
}

// begin starts a session under a new token, so that one that was planted
// before is worth nothing.
func (s *Site) begin(ctx context.Context, u *user) error {
	if err := s.sessions.RenewToken(ctx); err != nil {
		return err
	}
	kind, id := "account", int64(0)
	if u.account != nil {
		id = u.account.ID
	} else {
		kind, id = "mailbox", u.mailbox.ID
	}
	s.sessions.Put(ctx, keyKind, kind)
	s.sessions.Put(ctx, keyID, id)
	s.sessions.Put(ctx, keyMark, mark(u.hash()))
	return nil
}

// current is who the session belongs to, as the database knows them now; nil
// when nobody has signed in, or the person is gone or has a new password.
func (s *Site) current(ctx context.Context) (*user, error) {
	id := s.sessions.GetInt64(ctx, keyID)
	var u *user
	switch s.sessions.GetString(ctx, keyKind) {
	case "account":
		a, err := s.Store.AccountByID(ctx, id)
		if err != nil {
			return nil, unlessGone(err)
		}
		u = &user{Name: a.Login, account: a}
	case "mailbox":
		m, err := s.Store.MailboxLoginByID(ctx, id)
		if err != nil {
			return nil, unlessGone(err)
		}
		if !m.Enabled {
			return nil, nil
		}
		u = &user{Name: m.Address, mailbox: m}
	default:
		return nil, nil
	}
	if s.sessions.GetString(ctx, keyMark) != mark(u.hash()) {
		return nil, nil
	}
	return u, nil
}

func unlessGone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

type userHandler func(http.ResponseWriter, *http.Request, *user) error

// signedIn runs h for who has signed in, and sends others to the sign-in page.
func (s *Site) signedIn(h userHandler) http.HandlerFunc {
	return s.handle(func(w http.ResponseWriter, r *http.Request) error {
		u, err := s.current(r.Context())
		if err != nil {
			return err
		}
		if u == nil {
			to := "/login"
			if r.Method == http.MethodGet && r.URL.Path != "/" {
				to += "?next=" + url.QueryEscape(r.URL.RequestURI())
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
			return nil
		}
		return h(w, r, u)
	})
}

type domainHandler func(http.ResponseWriter, *http.Request, *user, *store.Domain) error

// inDomain runs h with the domain of the path when the user may see it.
func (s *Site) inDomain(h domainHandler) http.HandlerFunc {
	return s.signedIn(func(w http.ResponseWriter, r *http.Request, u *user) error {
		name, err := address.Domain(r.PathValue("domain"))
		if err != nil {
			return store.ErrNotFound
		}
		d, err := s.Store.Domain(r.Context(), u.viewer(), name)
		if err != nil {
			return err
		}
		return h(w, r, u, d)
	})
}
