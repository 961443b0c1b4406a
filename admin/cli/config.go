package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/config"
)

// Config is admin.yml.
type Config struct {
	config.Common `yaml:",inline"`
	// MigrateDatabase is the role that owns the schema, for "migrate" only.
	MigrateDatabase   *config.Database `yaml:"migrate_database"`
	Listen            string           `yaml:"listen"`                // host:port of the website; a TLS proxy stands before it
	PublicURL         string           `yaml:"public_url"`            // how browsers reach it; https makes cookies Secure
	ArchiveDirectory  string           `yaml:"archive_directory"`     // for "archive show" and "status"
	IdentityFile      string           `yaml:"archive_identity_file"` // secret keys of age for an encrypted archive; may be empty
	Recipients        []string         `yaml:"archive_recipients"`    // public keys of age that "archive import" encrypts for; none: it does not
	ArchiveBucket     ship.Config      `yaml:"archive_bucket"`        // where the worker ships segments to; may be empty
	WebmailURL        string           `yaml:"webmail_url"`           // shown to mailbox owners; may be empty
	IMAPAddress       string           `yaml:"imap_address"`          // the same: host:port
	SubmissionAddress string           `yaml:"submission_address"`    // the same: host:port
	SessionLifetime   time.Duration    `yaml:"session_lifetime"`      // of a sign-in
}

func defaultConfig() *Config { return &Config{SessionLifetime: 12 * time.Hour} }

// Validate implements config.Validator.
func (c *Config) Validate() error {
	errs := []error{c.Common.Validate(), c.ArchiveBucket.Validate(), config.Required("listen", c.Listen), config.Required("public_url", c.PublicURL),
		config.Required("archive_directory", c.ArchiveDirectory), config.Positive("session_lifetime", c.SessionLifetime)}
	if _, err := archive.ParseRecipients(c.Recipients); err != nil {
		errs = append(errs, fmt.Errorf("archive_recipients: %w", err))
	}
	if c.MigrateDatabase != nil {
		if err := c.MigrateDatabase.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("migrate_database: %w", err))
		}
	}
	for _, a := range []struct{ key, value string }{{"listen", c.Listen}, {"imap_address", c.IMAPAddress}, {"submission_address", c.SubmissionAddress}} {
		if _, _, err := net.SplitHostPort(a.value); a.value != "" && err != nil {
			errs = append(errs, fmt.Errorf("%s: %q; write it as HOST:PORT", a.key, a.value))
		}
	}
	for _, u := range []struct{ key, value string }{{"public_url", c.PublicURL}, {"webmail_url", c.WebmailURL}} {
		if p, err := url.Parse(u.value); u.value != "" && (err != nil || p.Scheme != "http" && p.Scheme != "https" || p.Host == "") {
			errs = append(errs, fmt.Errorf("%s: %q; write it as https://HOST", u.key, u.value))
		}
	}
	return errors.Join(errs...)
}

func loadConfig(path string) (*Config, error) {
	c := defaultConfig()
	return c, config.Load(path, c)
}

// archive is the archive, local and shipped.
func (c *Config) archive() (ship.Reader, error) {
	keys, err := archive.LoadIdentities(c.IdentityFile)
	if err != nil {
		return ship.Reader{}, fmt.Errorf("archive_identity_file: %w", err)
	}
	bucket, err := ship.NewBucket(c.ArchiveBucket)
	return ship.Reader{Dir: c.ArchiveDirectory, Bucket: bucket, Identities: keys}, err
}

type checkCmd struct{}

// Run validates the configuration file and says nothing when it is good.
func (checkCmd) Run(e *env) error {
	_, err := loadConfig(e.config)
	return err
}
