package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

func (s *Site) loginForm(w http.ResponseWriter, r *http.Request) error {
	u, err := s.current(r.Context())
	if err != nil {
		return err
	}
	next := localPath(r.FormValue("next"))
	if u != nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return nil
	}
	return render(w, r, http.StatusOK, loginView(s.page(r, nil, "Sign in"), "", next))
}

func (s *Site) login(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	login, next := r.PostFormValue("login"), localPath(r.PostFormValue("next"))
	u, wait, err := s.authenticate(r.Context(), login, r.PostFormValue("password"), clientAddress(r))
	p := s.page(r, nil, "Sign in")
	switch {
	case errors.Is(err, errWrong):
		p.Problem = "Login or password is wrong. An app password does not open this site."
		return render(w, r, http.StatusUnauthorized, loginView(p, login, next))
	case errors.Is(err, errThrottled):
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
		p.Problem = fmt.Sprintf("There were too many attempts. Please wait %d seconds.", int(wait.Seconds()))
		return render(w, r, http.StatusTooManyRequests, loginView(p, login, next))
	case err != nil:
		return err
	}
	if err := s.begin(r.Context(), u); err != nil {
		return err
	}
	s.Log.Info("signed in", "login", u.Name, "role", u.role())
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

func (s *Site) logout(w http.ResponseWriter, r *http.Request) error {
	if err := s.sessions.Destroy(r.Context()); err != nil {
		return err
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// localPath refuses to lead anywhere but to this site.
func localPath(s string) string {
	if !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsAny(s, "\\\r\n\t") || strings.HasPrefix(s, "/login") {
		return "/"
	}
	return s
}

// badForm is for a form that no page of ours sent, or a body that is too large.
func badForm(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return fmt.Errorf("%w: %v", errBadForm, err)
}
