package stack

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"strconv"
	"text/template"
)

//go:embed templates/*.tmpl
var standInTemplates embed.FS

var standIn = template.Must(template.ParseFS(standInTemplates, "templates/*.tmpl"))

// instances are the directories of the three Postfix instances.
var instances = map[Component]string{Postfix: "postfix", Primary: "primary", Internet: "internet"}

// standInValues fill the templates of the two other mail servers.
type standInValues struct {
	Name, Hostname, Dir, Daemons, Log, Prefix, Source, Domain string
	Port, Gateway, UID, GID                                   int
	Users                                                     []string // none: takes mail for everybody
}

// writeStandIns configures the stand-in primary and the stand-in internet.
func (s *Stack) writeStandIns() error {
	l := &s.layout
	for _, v := range []standInValues{
		{Name: string(Primary), Hostname: "mail." + Domain, Source: primarySource, Users: Users},
		{Name: string(Internet), Hostname: "mail.internet.test", Source: internetSource},
	} {
		v.Dir, v.Daemons, v.Log, v.Prefix = l.path(v.Name), l.PostfixDaemons, s.logFile(Component(v.Name)), l.Dir
		v.Port, v.Gateway, v.Domain, v.UID, v.GID = l.Ports[v.Name], l.Ports["smtp"], Domain, mailOwner.uid, mailOwner.gid
		for _, name := range []string{"main.cf", "master.cf"} {
			var text bytes.Buffer
			if err := standIn.ExecuteTemplate(&text, name+".tmpl", v); err != nil {
				return fmt.Errorf("configure %s: %w", v.Name, err)
			}
			if err := writeFile(l.path(v.Name, "etc", name), text.Bytes(), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// preparePostfix lets Postfix make and check its queue directories. The
// sockets of the other servers lie in them, so this comes first.
func (s *Stack) preparePostfix(ctx context.Context) error {
	for _, c := range []Component{Postfix, Primary, Internet} {
		if !s.layout.has(c) && c != Postfix {
			continue
		}
		if _, err := output(ctx, "/usr/sbin/postfix", "-c", s.layout.path(instances[c], "etc"), "check"); err != nil {
			return fmt.Errorf("check configuration of %s: %w%s", c, err, indent(s.logSince(c, 0)))
		}
	}
	return nil
}

// masterCommand runs Postfix's master(8) in the foreground.
func (s *Stack) masterCommand(c Component) []string {
	return []string{s.layout.PostfixDaemons + "/master", "-c", s.layout.path(instances[c], "etc"), "-s"}
}

func (l *layout) port(name string) string { return strconv.Itoa(l.Ports[name]) }
