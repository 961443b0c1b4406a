// Command understudy-stack starts and stops the scratch stack, whole or by
// component; "make up" and "make down" call it. It exits 0, 1 (it failed, with
// a reason) or 2 (wrong usage).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"understudy/internal/stack"
)

const usage = `usage: understudy-stack [-dir DIR] COMMAND
  up                        install what is missing, build, start everything
  down                      stop everything and remove DIR
  status                    which components run
  start|stop|restart|kill COMPONENT
                            kill ends it with SIGKILL, as a crash would
  packages [NAME...]        only install what is missing
components: %v
`

func main() {
	dir := flag.String("dir", ".run", "the stack's directory")
	repo := flag.String("repo", ".", "checkout of the sources, for up")
	flag.Usage = func() { fmt.Fprintf(os.Stderr, usage, stack.Components()) }
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	syscall.Umask(0o022)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *dir, *repo, flag.Arg(0), flag.Args()[1:])
	stop()
	switch {
	case errors.Is(err, errUsage):
		flag.Usage()
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "understudy-stack:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong usage")

func run(ctx context.Context, dir, repo, command string, args []string) error {
	switch {
	case command == "up" && len(args) == 0:
		return up(ctx, dir, repo)
	case command == "down" && len(args) == 0:
		return stack.Down(ctx, dir, os.Stdout)
	case command == "packages":
		return stack.InstallPackages(ctx, os.Stdout, args...)
	case command == "status" && len(args) == 0:
		return status(dir)
	case len(args) == 1:
		return component(ctx, dir, command, stack.Component(args[0]))
	}
	return errUsage
}

func up(ctx context.Context, dir, repo string) error {
	if os.Geteuid() != 0 {
		return errors.New("make up must run as root: it installs packages, and Postfix and Dovecot change users")
	}
	ports, err := fixedPorts()
	if err != nil {
		return err
	}
	if err := stack.InstallPackages(ctx, os.Stdout); err != nil {
		return err
	}
	s, err := stack.Up(ctx, stack.Options{Dir: dir, RepoRoot: repo, Ports: ports, Progress: os.Stdout})
	if errors.Is(err, stack.ErrAlreadyRunning) {
		fmt.Println("already running")
		err = nil
	}
	if err != nil {
		return err
	}
	show(s, dir)
	return nil
}

// fixedPorts reads PORT_SMTP and so on from the environment.
func fixedPorts() (map[string]int, error) {
	ports := map[string]int{}
	for _, name := range stack.PortNames() {
		text := os.Getenv(stack.PortVariable(name))
		if text == "" {
			continue
		}
		p, err := strconv.ParseUint(text, 10, 16)
		if err != nil || p == 0 {
			return nil, fmt.Errorf("%s=%s: want a port number", stack.PortVariable(name), text)
		}
		ports[name] = int(p)
	}
	return ports, nil
}

func show(s *stack.Stack, dir string) {
	i := s.Info
	fmt.Printf(`
SMTP        %s     (mail for %s)
submission  %s     (STARTTLS)
IMAP        %s     IMAPS %s     POP3 %s
website     %s
  operator  %s / %s
  admin     %s / %s
mailboxes
`, i.SMTP, i.Domain, i.Submission, i.IMAP, i.IMAPS, i.POP3, i.Portal, i.Operator.Login, i.Operator.Password, i.Admin.Login, i.Admin.Password)
	for _, m := range i.Mailboxes {
		fmt.Printf("  %s / %s\n", m.Address, m.Password)
	}
	fmt.Printf(`primary     %s     %s
  stop it   %s
  start it  %s
internet    %s     %s
command     %s
logs        %s/log

All of it is in %s/stack.json. Stop with: make down
`, i.Primary.SMTP, i.Primary.Maildir, i.Primary.Stop, i.Primary.Start, i.Internet.SMTP, i.Internet.Maildir, i.CLI, s.Dir(), strings.TrimSuffix(dir, "/"))
}

func status(dir string) error {
	s, err := stack.Open(dir)
	if err != nil {
		return err
	}
	var dead []string
	for _, c := range s.Components() {
		state := "runs"
		if !s.Running(c) {
			state = "does not run"
			dead = append(dead, string(c))
		}
		fmt.Printf("%-13s %s\n", c, state)
	}
	if len(dead) > 0 {
		return fmt.Errorf("not running: %s", strings.Join(dead, ", "))
	}
	return nil
}

func component(ctx context.Context, dir, command string, c stack.Component) error {
	do := map[string]func(*stack.Stack, context.Context, stack.Component) error{
		"start": (*stack.Stack).Start, "stop": (*stack.Stack).Stop, "restart": (*stack.Stack).Restart, "kill": (*stack.Stack).Kill9,
	}[command]
	if do == nil {
		return errUsage
	}
	s, err := stack.Open(dir)
	if err != nil {
		return err
	}
	return do(s, ctx, c)
}
