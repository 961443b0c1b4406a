package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"understudy/dovecot-auth/lockout"
	"understudy/internal/config"
)

// Config is the service's configuration file.
type Config struct {
	config.Common `yaml:",inline"`

	LuaListen         string         `yaml:"lua_listen"`          // "unix:/path" or "inet:host:port", for Dovecot's Lua script
	SASLListen        string         `yaml:"sasl_listen"`         // the same, for Postfix's smtpd
	MailDirectory     string         `yaml:"mail_directory"`      // homes are mail_directory/domain/local
	MailUID           int            `yaml:"mail_uid"`            // numeric user that owns all mail
	MailGID           int            `yaml:"mail_gid"`            // its group
	DefaultQuotaBytes int64          `yaml:"default_quota_bytes"` // of a mailbox without a quota of its own
	VerifyConcurrency int            `yaml:"verify_concurrency"`  // password verifications at once, 19 MiB each; 0: one per processor
	VerifyQueue       int            `yaml:"verify_queue"`        // verifications that may wait; beyond that logins fail temporarily
	MaxConnections    int            `yaml:"max_connections"`     // on each of the two sockets
	Lockout           lockout.Config `yaml:"lockout"`
}

// defaultConfig is the configuration where the file says nothing.
func defaultConfig() *Config {
	return &Config{DefaultQuotaBytes: 1 << 30, VerifyQueue: 256, MaxConnections: 2000, Lockout: lockout.Default()}
}

// Validate implements config.Validator.
func (c *Config) Validate() error {
	errs := []error{c.Common.Validate(), config.Required("lua_listen", c.LuaListen), config.Required("sasl_listen", c.SASLListen),
		config.Required("mail_directory", c.MailDirectory), config.Positive("mail_uid", c.MailUID), config.Positive("mail_gid", c.MailGID),
		config.Positive("default_quota_bytes", c.DefaultQuotaBytes), config.Positive("verify_queue", c.VerifyQueue),
		config.Positive("max_connections", c.MaxConnections), c.Lockout.Validate()}
	if c.MailDirectory != "" && !filepath.IsAbs(c.MailDirectory) {
		errs = append(errs, fmt.Errorf("mail_directory: %q is not an absolute path", c.MailDirectory))
	}
	if c.VerifyConcurrency < 0 {
		errs = append(errs, errors.New("verify_concurrency: must not be negative"))
	}
	return errors.Join(errs...)
}
