package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
	"time"
)

const (
	operatorLogin = "operator"
	adminLogin    = "admin"
)

// Info is stack.json: where a running stack's servers are and how to log in.
// Its keys are a promise to clients outside this module.
type Info struct {
	SMTP          string            `json:"smtp"` // host:port, as all addresses
	Submission    string            `json:"submission"`
	IMAP          string            `json:"imap"`
	IMAPS         string            `json:"imaps"`
	POP3          string            `json:"pop3"`
	Portal        string            `json:"portal"`   // URL of the website
	Webmail       string            `json:"webmail"`  // URL, or empty
	Postgres      string            `json:"postgres"` // URL with the owner's password
	Metrics       map[string]string `json:"metrics"`  // URL by service
	Archive       string            `json:"archive"`  // directory
	Domain        string            `json:"domain"`
	Operator      Login             `json:"operator"`
	Admin         Login             `json:"admin"`
	Mailboxes     []Mailbox         `json:"mailboxes"`
	Primary       PrimaryInfo       `json:"primary"`
	Internet      InternetInfo      `json:"internet"`
	PostfixConfig string            `json:"postfix_config"` // for postqueue -c
	Bin           string            `json:"bin"`
	CLI           string            `json:"cli"` // command line, to be followed by a command
}

// Login is an account of the website.
type Login struct {
	Login    string `json:"login"`
	Password string `json:"password"`
}

// Mailbox is a registered mailbox.
type Mailbox struct {
	Address  string `json:"address"`
	Password string `json:"password"`
}

// PrimaryInfo is the stand-in primary; "{user}" in Maildir stands for the
// local part.
type PrimaryInfo struct {
	SMTP    string `json:"smtp"`
	Maildir string `json:"maildir"`
	Start   string `json:"start"` // shell command
	Stop    string `json:"stop"`
}

// InternetInfo is the stand-in for everybody else.
type InternetInfo struct {
	SMTP    string `json:"smtp"`
	Maildir string `json:"maildir"`
}

// ReadInfo reads a stack.json.
func ReadInfo(path string) (Info, error) {
	var i Info
	text, err := os.ReadFile(path)
	if err != nil {
		return i, fmt.Errorf("read stack.json: %w", err)
	}
	if err := json.Unmarshal(text, &i); err != nil {
		return i, fmt.Errorf("read %s: %w", path, err)
	}
	return i, nil
}

// describe fills Info from the layout.
func (s *Stack) describe() error {
	l := &s.layout
	secrets := map[string]string{}
	for _, n := range append([]string{"operator", "admin"}, Registered...) {
		password, err := l.secret("login-" + n)
		if err != nil {
			return err
		}
		secrets[n] = password
	}
	database, err := l.secret("database-understudy")
	if err != nil {
		return err
	}
	tool := filepath.Join(l.Bin, Tool) + " -dir " + l.Dir
	s.Info = Info{
		SMTP: l.address("smtp"), Submission: l.address("submission"), IMAP: l.address("imap"), IMAPS: l.address("imaps"), POP3: l.address("pop3"),
		Portal:   "http://" + l.address("portal"),
		Postgres: "postgres://understudy:" + database + "@" + l.address("postgres") + "/" + databaseName + "?sslmode=disable",
		Metrics:  map[string]string{}, Archive: l.path("archive"), Domain: Domain,
		Operator: Login{operatorLogin, secrets["operator"]}, Admin: Login{adminLogin, secrets["admin"]},
		Primary: PrimaryInfo{SMTP: l.address("primary"), Maildir: l.path("primary", "mail", "{user}") + "/",
			Start: tool + " start primary", Stop: tool + " stop primary"},
		Internet:      InternetInfo{SMTP: l.address("internet"), Maildir: l.path("internet", "mail", "all") + "/"},
		PostfixConfig: l.path("postfix", "etc"), Bin: l.Bin,
		CLI: filepath.Join(l.Bin, binary(Admin)) + " -config " + s.configFile(Admin),
	}
	for _, c := range []Component{Milter, Policyd, DovecotAuth, Worker, Admin} {
		s.Info.Metrics[string(c)] = "http://" + l.address(string(c)+"-metrics") + "/metrics"
	}
	for _, u := range Registered {
		s.Info.Mailboxes = append(s.Info.Mailboxes, Mailbox{u + "@" + Domain, secrets[u]})
	}
	return nil
}

// writeInfo writes stack.json, all at once: whoever sees it sees a ready stack.
func (s *Stack) writeInfo() error {
	if err := s.describe(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s.Info, "", "  ")
	if err != nil {
		return fmt.Errorf("write stack.json: %w", err)
	}
	path := s.layout.path("stack.json")
	if err := writeFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write stack.json: %w", err)
	}
	return nil
}

// checkTogether logs in as a user: only that shows that Dovecot, its Lua
// script, dovecot-auth and the directory work together.
func (s *Stack) checkTogether(ctx context.Context) error {
	if !s.layout.has(Dovecot) || !s.layout.has(DovecotAuth) || !s.layout.has(Admin) {
		return nil
	}
	password, err := s.layout.secret("login-" + Registered[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := logIn(ctx, s.layout.address("imap"), Registered[0]+"@"+Domain, password)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("log in by IMAP: %w; the log of dovecot says:%s", err, indent(s.logSince(Dovecot, 0)))
		case <-time.After(pollInterval):
		}
	}
}

func logIn(ctx context.Context, address, user, password string) error {
	c, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "a LOGIN %q %q\r\nb LOGOUT\r\n", user, password); err != nil {
		return err
	}
	r := textproto.NewReader(bufio.NewReader(c))
	for {
		line, err := r.ReadLine()
		if err != nil {
			return err
		}
		if len(line) > 2 && line[:2] == "a " {
			if line[2:4] != "OK" {
				return fmt.Errorf("%s", line)
			}
			return nil
		}
	}
}
