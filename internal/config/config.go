// Package config is the one loader of Understudy's configuration: a strict
// YAML file per service. An unknown key, a wrong type or a missing value is
// an error that names the line.
package config

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrInvalid marks a configuration that cannot be used.
var ErrInvalid = errors.New("invalid configuration")

// maxFileBytes bounds what is read: a configuration is small.
const maxFileBytes = 1 << 20

// Validator is a configuration that checks its own values. Validate joins all
// it finds, each error naming its key.
type Validator interface{ Validate() error }

// Load reads the YAML file at path into cfg, which holds the defaults, and
// validates it.
func Load(path string, cfg Validator) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return fmt.Errorf("read configuration %s: %w", path, err)
	}
	if len(text) > maxFileBytes {
		return fmt.Errorf("%w: %s is larger than %d bytes", ErrInvalid, path, maxFileBytes)
	}
	if err := yaml.UnmarshalWithOptions(text, cfg, yaml.Strict()); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s: %s", ErrInvalid, path, yaml.FormatError(err, false, true))
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w: %s:\n%w", ErrInvalid, path, err)
	}
	return nil
}

// Common is what every service's file has.
type Common struct {
	Database       Database `yaml:"database"`
	StateDirectory string   `yaml:"state_directory"` // where the service keeps its own files
	MetricsListen  string   `yaml:"metrics_listen"`  // "host:port" of /metrics and /healthz
	LogLevel       string   `yaml:"log_level"`       // debug, info, warn, error
	Gateway        string   `yaml:"gateway"`         // this machine's name among those that share the database; empty: its host name
}

// Validate checks the common keys.
func (c *Common) Validate() error {
	return errors.Join(c.Database.Validate(), Required("state_directory", c.StateDirectory),
		Required("metrics_listen", c.MetricsListen),
		OneOf("log_level", c.LogLevel, "", "debug", "info", "warn", "error"))
}

// GatewayName is this machine's name among those that share the database.
func (c *Common) GatewayName() string {
	if c.Gateway != "" {
		return c.Gateway
	}
	host, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return host
}

// Level is how much the service logs.
func (c *Common) Level() string { return c.LogLevel }

// Database says how PostgreSQL is reached. The password is never in the URL,
// so that it can stand in no log.
type Database struct {
	URL          string `yaml:"url"`
	PasswordFile string `yaml:"password_file"`
}

// Validate checks the URL.
func (d *Database) Validate() error {
	if err := Required("database.url", d.URL); err != nil {
		return err
	}
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("database.url: want postgres://user@host:port/name")
	}
	if _, has := u.User.Password(); has {
		return errors.New("database.url: put the password into database.password_file")
	}
	return nil
}

// PoolConfig gives pgx's configuration, with the password read from its file.
func (d *Database) PoolConfig() (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(d.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: database.url: %w", ErrInvalid, err)
	}
	if d.PasswordFile != "" {
		secret, err := Secret(d.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("database.password_file: %w", err)
		}
		c.ConnConfig.Password = secret
	}
	return c, nil
}

// Secret reads a one-line secret from a file.
func Secret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimRight(string(text), "\r\n")
	if s == "" {
		return "", fmt.Errorf("%w: secret file %s is empty", ErrInvalid, path)
	}
	return s, nil
}

// Required refuses an empty value.
func Required(key, value string) error {
	if value == "" {
		return fmt.Errorf("%s: is missing", key)
	}
	return nil
}

// OneOf refuses a value that is not among those allowed.
func OneOf(key, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("%s: %q is none of %s", key, value, strings.Join(allowed, ", "))
}

// Positive refuses zero and negative numbers and durations.
func Positive[T int | int64 | time.Duration](key string, value T) error {
	if value <= 0 {
		return fmt.Errorf("%s: must be more than 0, is %v", key, value)
	}
	return nil
}
