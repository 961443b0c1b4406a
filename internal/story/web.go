package story

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// website is a signed-in session, used as a browser without scripts would.
type website struct {
	base   string
	client *http.Client
}

func signIn(ctx context.Context, base, login, password string) (*website, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	w := &website{base: base, client: &http.Client{Jar: jar, Timeout: dialogueTimeout}}
	page, err := w.post(ctx, "/login", url.Values{"login": {login}, "password": {password}})
	if err != nil {
		return nil, fmt.Errorf("sign in as %s: %w", login, err)
	}
	if strings.Contains(page, `name="password"`) {
		return nil, fmt.Errorf("sign in as %s: still on the sign-in page", login)
	}
	return w, nil
}

// switchMode confirms the form of a domain's switch.
func (w *website) switchMode(ctx context.Context, domain, mode, reason string) error {
	_, err := w.post(ctx, "/domains/"+domain+"/mode", url.Values{"to": {mode}, "reason": {reason}})
	if err != nil {
		return fmt.Errorf("switch %s to %s on the website: %w", domain, mode, err)
	}
	return nil
}

func (w *website) post(ctx context.Context, path string, form url.Values) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := w.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %.4000s", path, resp.Status, body)
	}
	return string(body), nil
}
