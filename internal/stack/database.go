package stack

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

const databaseName = "understudy"

// initDatabase makes an empty cluster. Only the user postgres gets in over
// its socket; everybody else comes with a password.
func (s *Stack) initDatabase(ctx context.Context) error {
	if !s.layout.has(Postgres) {
		return nil
	}
	_, err := s.asPostgres(ctx, "", s.layout.PostgresBin+"/initdb", "-D", s.layout.path("postgres", "data"), "-U", "postgres",
		"--auth-local=peer", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
	if err != nil {
		return fmt.Errorf("make PostgreSQL cluster: %w", err)
	}
	return nil
}

// postgresCommand runs the server with what the role sets.
func (s *Stack) postgresCommand() ([]string, error) {
	roles, err := OpenRoles(s.layout.Repo)
	if err != nil {
		return nil, err
	}
	locks := fmt.Sprintf("max_locks_per_transaction=%v", roles.defaults["postgresql_max_locks_per_transaction"])
	return []string{s.layout.PostgresBin + "/postgres", "-D", s.layout.path("postgres", "data"), "-p", s.layout.port("postgres"),
		"-k", s.layout.path("postgres", "socket"), "-h", "127.0.0.1", "-c", "max_connections=200", "-c", "log_min_messages=warning", "-c", locks}, nil
}

// asPostgres runs a PostgreSQL program as its user.
func (s *Stack) asPostgres(ctx context.Context, input, name string, args ...string) (string, error) {
	a, err := lookupAccount("postgres")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/var/lib/postgresql"}
	cmd.Stdin = strings.NewReader(input)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w%s", err, indent(string(out)))
	}
	return string(out), nil
}

func (s *Stack) psql(ctx context.Context, database, sql string) error {
	_, err := s.asPostgres(ctx, sql, s.layout.PostgresBin+"/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1",
		"-h", s.layout.path("postgres", "socket"), "-p", s.layout.port("postgres"), "-U", "postgres", "-d", database)
	return err
}

func (s *Stack) postgresAnswers(ctx context.Context) error {
	_, err := s.asPostgres(ctx, "", s.layout.PostgresBin+"/pg_isready", "-q", "-h", "127.0.0.1", "-p", s.layout.port("postgres"))
	return err
}

// prepareDatabase makes roles and database, then lets understudy-admin make
// the schema and fill the directory.
func (s *Stack) prepareDatabase(ctx context.Context) error {
	var sql strings.Builder
	for _, role := range databaseRoles {
		password, err := s.layout.secret("database-" + role)
		if err != nil {
			return err
		}
		fmt.Fprintf(&sql, "CREATE ROLE %s LOGIN PASSWORD '%s';\n", role, password) // letters and digits
	}
	fmt.Fprintf(&sql, "CREATE DATABASE %s OWNER understudy;\n", databaseName)
	if err := s.psql(ctx, "postgres", sql.String()); err != nil {
		return fmt.Errorf("make database: %w", err)
	}
	if !s.layout.has(Admin) {
		return nil
	}
	s.say("schema, directory")
	return s.provision(ctx)
}

// CLI runs understudy-admin with this stack's configuration and returns what
// it prints; input is its standard input.
func (s *Stack) CLI(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.layout.Bin+"/"+binary(Admin), append([]string{"-config", s.configFile(Admin)}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		return string(out), fmt.Errorf("understudy-admin %s: %w%s", strings.Join(args, " "), err, indent(string(out)))
	}
	return string(out), nil
}

// provision fills the directory by the command line, as an operator would.
func (s *Stack) provision(ctx context.Context) error {
	steps := []struct {
		secret string // name of the password on standard input; empty: none
		args   []string
	}{
		{"", []string{"migrate"}},
		{"", []string{"domain", "add", Domain, "--primary", s.layout.address("primary"), "--activation", "automatic",
			"--scope", "all", "--outbound-network", primarySource + "/32"}},
		{"login-operator", []string{"account", "add", operatorLogin, "--role", "operator", "--password-stdin"}},
		{"login-admin", []string{"account", "add", adminLogin, "--role", "admin", "--domain", Domain, "--password-stdin"}},
	}
	for _, u := range Registered {
		steps = append(steps, struct {
			secret string
			args   []string
		}{"login-" + u, []string{"mailbox", "add", u + "@" + Domain, "--password-stdin"}})
	}
	for _, step := range steps {
		input := ""
		if step.secret != "" {
			password, err := s.layout.secret(step.secret)
			if err != nil {
				return err
			}
			input = password + "\n"
		}
		if _, err := s.CLI(ctx, input, step.args...); err != nil {
			return fmt.Errorf("fill the directory: %w", err)
		}
	}
	return nil
}
