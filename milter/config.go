package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"understudy/internal/archive"
	"understudy/internal/config"
)

// Config is the content of milter.yml.
type Config struct {
	config.Common    `yaml:",inline"`
	Listen           string        `yaml:"listen"`             // "unix:PATH", a socket that Postfix's smtpd_milters names
	ArchiveDirectory string        `yaml:"archive_directory"`  // of the archive log
	Recipients       []string      `yaml:"archive_recipients"` // public keys of age that the archive is encrypted for; none: it is not
	SegmentMaxBytes  int64         `yaml:"segment_max_bytes"`  // a larger segment is sealed
	SegmentMaxAge    time.Duration `yaml:"segment_max_age"`    // an older one too
	MaxMessageBytes  int64         `yaml:"max_message_bytes"`  // larger messages are refused for now: set it above Postfix's message_size_limit
	MaxConnections   int           `yaml:"max_connections"`    // milter sessions at once; more wait
}

// maxMessageBound keeps a record within what the archive's readers accept.
const maxMessageBound = 1000 << 20

func defaultConfig() *Config {
	return &Config{SegmentMaxBytes: 256 << 20, SegmentMaxAge: 10 * time.Minute, MaxMessageBytes: 100 << 20, MaxConnections: 1000}
}

// Validate checks the values; each error names its key.
func (c *Config) Validate() error {
	var listen, size, recipients error
	if !strings.HasPrefix(c.Listen, "unix:/") && !strings.HasPrefix(c.Listen, "inet:") {
		listen = errors.New("listen: want unix:/path or inet:host:port")
	}
	if c.MaxMessageBytes > maxMessageBound {
		size = errors.New("max_message_bytes: must not be more than 1048576000")
	}
	if _, err := archive.ParseRecipients(c.Recipients); err != nil {
		recipients = fmt.Errorf("archive_recipients: %w", err)
	}
	return errors.Join(c.Common.Validate(), listen, config.Required("archive_directory", c.ArchiveDirectory), recipients,
		config.Positive("segment_max_bytes", c.SegmentMaxBytes), config.Positive("segment_max_age", c.SegmentMaxAge),
		config.Positive("max_message_bytes", c.MaxMessageBytes), size, config.Positive("max_connections", c.MaxConnections))
}
