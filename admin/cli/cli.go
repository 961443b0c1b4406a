// Package cli is the command line of understudy-admin.
//
// Exit status: 0 done, 1 failed (the reason is on standard error), 2 wrong
// usage. With --json each command writes one JSON value to standard output.
// When PostgreSQL does not answer, a command fails within seconds and says
// that mail is not affected.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// errUsage marks a command line that cannot be meant.
var errUsage = errors.New("wrong usage")

// grammar is the whole command line; kong reads the tags.
type grammar struct {
	Config string `help:"Configuration file." short:"c" default:"/etc/understudy/admin.yml" placeholder:"FILE"`
	JSON   bool   `name:"json" help:"Write JSON to standard output."`

	Serve     serveCmd     `cmd:"" help:"Run the website until told to stop."`
	Check     checkCmd     `cmd:"" help:"Validate the configuration file only (also: -check)."`
	Migrate   migrateCmd   `cmd:"" help:"Bring the database schema to this program's version."`
	Status    statusCmd    `cmd:"" help:"Show whether all is well: schema, domains, archive index, held mail."`
	Mode      modeCmd      `cmd:"" help:"Show or switch a domain's mode."`
	Domain    domainCmd    `cmd:"" help:"Customer domains."`
	Mailbox   mailboxCmd   `cmd:"" help:"Mailboxes and their passwords."`
	Alias     aliasCmd     `cmd:"" help:"Other addresses of mailboxes."`
	Recipient recipientCmd `cmd:"" help:"Addresses that a domain's mail server has, and those it refuses."`
	Outbound  outboundCmd  `cmd:"" help:"Customers' servers that sign in to send, and limits of sending."`
	Account   accountCmd   `cmd:"" help:"Operators and domain admins of the website."`
	Drain     drainCmd     `cmd:"" help:"Mail on its way back to the primary after an emergency."`
	Archive   archiveCmd   `cmd:"" help:"The archive of messages."`
	Hold      holdCmd      `cmd:"" help:"Legal holds: what must not expire from the archive."`
}

// Main runs one command line (without the program's name) and returns its
// exit status.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var g grammar
	parser, err := kong.New(&g, kong.Name("understudy-admin"),
		kong.Description("Mail continuity: domains, mailboxes, modes, archive; and the website."),
		kong.Writers(stdout, stderr), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
	if err != nil {
		fmt.Fprintln(stderr, "understudy-admin:", err)
		return exitFailed
	}
	command, err := parser.Parse(doubleDashes(args))
	if err != nil {
		fmt.Fprintf(stderr, "understudy-admin: %v\nRun \"understudy-admin --help\", or COMMAND --help, for the usage.\n", err)
		return exitUsage
	}
	e := &env{ctx: ctx, config: g.Config, json: g.JSON, in: stdin, out: stdout, err: stderr}
	defer e.close()
	err = command.Run(e)
	var bucket *ship.StoreError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errUsage), errors.Is(err, store.ErrInvalid):
		fmt.Fprintln(stderr, "understudy-admin:", err)
		return exitUsage
	case errors.As(err, &bucket) && ctx.Err() == nil: // not to be taken for the database
		fmt.Fprintf(stderr, "understudy-admin: the archive bucket does not answer as it should (nothing is lost; try again when it does): %v\n", err)
	case store.Unavailable(err):
		fmt.Fprintf(stderr, "understudy-admin: the database does not answer (mail is not affected, it runs from memory): %v\n", err)
	default:
		fmt.Fprintln(stderr, "understudy-admin:", err)
	}
	return exitFailed
}

// doubleDashes writes the flags before the command, which all services share
// in Go's single-dash form, as kong wants them. -check alone is the command.
func doubleDashes(args []string) []string {
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if !strings.HasPrefix(args[i], "-") || args[i] == "--" {
			return append(out, args[i:]...)
		}
		switch {
		case name == "config" && has:
			out = append(out, "--config="+value)
		case name == "config" || args[i] == "-c":
			out = append(out, "--config")
			if i++; i < len(args) {
				out = append(out, args[i])
			}
		case name == "check" && !has:
			out = append(out, "check")
		case name == "json" && !has:
			out = append(out, "--json")
		default:
			out = append(out, args[i])
		}
	}
	return out
}

func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}
