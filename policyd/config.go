package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"understudy/internal/config"
	"understudy/policyd/limit"
)

// Config is policyd.yml.
type Config struct {
	config.Common   `yaml:",inline"`
	PolicyListen    string       `yaml:"policy_listen"`    // policy delegation protocol; "unix:PATH" or "inet:host:port"
	SocketmapListen string       `yaml:"socketmap_listen"` // socketmap lookups
	ControlListen   string       `yaml:"control_listen"`   // HTTP for the worker
	PortalTransport string       `yaml:"portal_transport"` // transport:nexthop, as in transport(5)
	MaxConnections  int          `yaml:"max_connections"`  // of each protocol, at once
	ReentryUsers    []string     `yaml:"reentry_users"`    // of this machine, who may use the re-entry listener; empty: all
	Limits          limit.Config `yaml:"limits"`           // of outbound mail, for senders without limits of their own
}

func defaults() *Config {
	return &Config{PortalTransport: "lmtp:unix:private/dovecot-lmtp", MaxConnections: 2000, Limits: limit.Default()}
}

// Validate checks all keys.
func (c *Config) Validate() error {
	return errors.Join(c.Common.Validate(),
		listenAddress("policy_listen", c.PolicyListen),
		listenAddress("socketmap_listen", c.SocketmapListen),
		listenAddress("control_listen", c.ControlListen),
		transport("portal_transport", c.PortalTransport),
		config.Positive("max_connections", c.MaxConnections), c.Limits.Validate())
}

func listenAddress(key, value string) error {
	if err := config.Required(key, value); err != nil {
		return err
	}
	if path, ok := strings.CutPrefix(value, "unix:"); ok && path != "" {
		return nil
	}
	if where, ok := strings.CutPrefix(value, "inet:"); ok {
		if _, _, err := net.SplitHostPort(where); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s: %q is neither unix:PATH nor inet:host:port", key, value)
}

func transport(key, value string) error {
	name, hop, ok := strings.Cut(value, ":")
	if !ok || name == "" || hop == "" || len(value) > 512 || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s: %q is not transport:nexthop", key, value)
	}
	return nil
}
