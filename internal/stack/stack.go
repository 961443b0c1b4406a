// Package stack is the scratch stack: PostgreSQL, Postfix, Dovecot, the five
// services, a stand-in primary of example.test and a stand-in internet, all
// real, on loopback ports below one directory. "make up" runs it through cmd;
// integration tests run their own through Up.
//
// Every Postfix and Dovecot setting comes from the Ansible roles' templates,
// rendered here with other paths and ports.
//
// The services run as root here (PostgreSQL does not): postqueue refuses
// another configuration directory to anyone else, and one directory must hold
// files of four users. Deployed, they run as a user of their own.
//
// When something cannot be started, Up stops what it had started, leaves
// nothing but logs, and says what is wrong.
package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Component is one of the stack's servers.
type Component string

// The components, in the order in which they are started.
const (
	Postgres    Component = "postgres"
	Policyd     Component = "policyd"
	DovecotAuth Component = "dovecot-auth"
	Milter      Component = "milter"
	Dovecot     Component = "dovecot"
	Postfix     Component = "postfix"
	Primary     Component = "primary"
	Internet    Component = "internet"
	Worker      Component = "worker"
	Admin       Component = "admin"
)

// stages are started one after another, the components of a stage at once:
// each needs those before it. Stopping goes backwards.
var stages = [][]Component{
	{Postgres},
	{Policyd, DovecotAuth, Milter},
	{Dovecot, Postfix, Primary, Internet},
	{Worker, Admin},
}

// Components lists all, in starting order.
func Components() []Component {
	var all []Component
	for _, s := range stages {
		all = append(all, s...)
	}
	return all
}

// Domain and Users are what every stack serves. The last user exists at the
// primary alone, not in the directory.
const Domain = "example.test"

// Users are the primary's mailboxes; Registered those of the directory too.
var (
	Users      = []string{"ana", "bruno", "carla", "dora"}
	Registered = Users[:3]
)

// Addresses that clients come from: the stand-in primary and "the internet".
const (
	primarySource  = "127.0.0.2"
	internetSource = "127.0.0.3"
)

// ErrAlreadyRunning is returned by Up, with the stack, when it runs already.
var ErrAlreadyRunning = errors.New("the stack is already running")

// Options say how a stack is made.
type Options struct {
	Dir      string         // where it lives; replaced by a symbolic link when sockets cannot live there
	RepoRoot string         // checkout with ansible/roles and the services' sources
	Bin      string         // directory with prebuilt binaries; empty: built into Dir/bin
	Ports    map[string]int // fixed ports by name (see PortNames); the others are free ones
	// Variables override those of the roles, e.g. a shorter timeout.
	Variables Variables
	// Only starts these components, for tests of a part; empty: all. Without
	// Admin nothing is migrated or provisioned.
	Only     []Component
	Progress io.Writer // one line for each step; nil: none
}

// Stack is a stack that was started, by this process or by another.
type Stack struct {
	layout   layout
	Info     Info
	progress io.Writer
}

// Up makes and starts a stack. It returns when every component does its work
// and Dir/stack.json is written. Up on a running stack returns it with
// ErrAlreadyRunning.
func Up(ctx context.Context, o Options) (_ *Stack, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("this must run as root: Postfix and Dovecot change users")
	}
	began := time.Now()
	home, err := prepareDirectory(o.Dir)
	if err != nil {
		return nil, err
	}
	defer home.unlock()
	if home.exists {
		return reuse(home)
	}
	s := &Stack{progress: o.Progress}
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("interrupted: %w", ctx.Err())
		}
		if err != nil {
			err = errors.Join(err, s.abandon(context.WithoutCancel(ctx), home))
		}
	}()
	if err := s.make(ctx, o, home); err != nil {
		return nil, err
	}
	if err := s.startAll(ctx); err != nil {
		return nil, err
	}
	if err := s.writeInfo(); err != nil {
		return nil, err
	}
	s.say("ready after %.1f s", time.Since(began).Seconds())
	return s, nil
}

// reuse answers an Up on a directory that has a stack.
func reuse(home *home) (*Stack, error) {
	mend := fmt.Sprintf("mend it with: make down && make up (RUN_DIR=%s)", home.link)
	s, err := Open(home.link)
	if err != nil {
		return nil, fmt.Errorf("%s holds a stack that was not started to the end; %s: %w", home.link, mend, err)
	}
	var dead []Component
	for _, c := range s.layout.Components {
		if !s.Running(c) {
			dead = append(dead, c)
		}
	}
	if len(dead) > 0 {
		return nil, fmt.Errorf("the stack in %s is damaged: %v does not run; %s", home.link, dead, mend)
	}
	return s, ErrAlreadyRunning
}

// Open finds the stack that lives in dir.
func Open(dir string) (*Stack, error) {
	s := &Stack{}
	text, err := os.ReadFile(filepath.Join(dir, "etc", "layout.json"))
	if err != nil {
		return nil, fmt.Errorf("open stack: %w", err)
	}
	if err := json.Unmarshal(text, &s.layout); err != nil {
		return nil, fmt.Errorf("open stack %s: %w", dir, err)
	}
	if s.Info, err = ReadInfo(filepath.Join(dir, "stack.json")); err != nil {
		return nil, fmt.Errorf("open stack %s: %w", dir, err)
	}
	return s, nil
}

// Dir is the directory in which the stack really lives.
func (s *Stack) Dir() string { return s.layout.Dir }

// Components lists those that this stack has, in starting order.
func (s *Stack) Components() []Component { return slices.Clone(s.layout.Components) }

// say reports one step.
func (s *Stack) say(format string, args ...any) {
	if s.progress != nil {
		fmt.Fprintf(s.progress, format+"\n", args...)
	}
}

// make builds, chooses ports and writes every file.
func (s *Stack) make(ctx context.Context, o Options, home *home) error {
	repo, err := filepath.Abs(o.RepoRoot)
	if err != nil {
		return err
	}
	s.layout = layout{Dir: home.dir, Link: home.link, Repo: repo, Bin: o.Bin, Components: o.Only}
	if len(o.Only) == 0 {
		s.layout.Components = Components()
	}
	if err := s.layout.findServers(ctx); err != nil {
		return err
	}
	if s.layout.Ports, err = choosePorts(o.Ports); err != nil {
		return err
	}
	if s.layout.Bin == "" {
		s.layout.Bin = filepath.Join(home.dir, "bin")
		s.say("building the services")
		if err := Build(ctx, repo, s.layout.Bin, s.layout.Components); err != nil {
			return err
		}
	}
	s.say("writing configuration below %s", s.layout.Dir)
	return s.configure(ctx, o.Variables)
}
