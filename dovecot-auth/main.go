// Command understudy-dovecot-auth tells Dovecot and Postfix who may log in,
// and Dovecot where mailboxes live.
//
// It serves two sockets: one for the Lua passdb and userdb inside Dovecot
// (package luaserver), one for the SASL client of Postfix's smtpd (package
// saslserver). Both answer from the directory in memory (package account).
//
// When PostgreSQL is down all goes on from memory, or after a restart from
// the saved directory; only changes wait. When the directory was never
// loaded every answer is a temporary failure. When this service is down,
// Dovecot says [UNAVAILABLE] and LMTP 451, and Postfix 454.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"understudy/internal/config"
	"understudy/internal/observe"
)

func main() { os.Exit(command()) }

// command returns the exit status: 0, 1 if something went wrong, 2 for wrong
// usage (which package flag exits with by itself).
func command() int {
	file := flag.String("config", "", "configuration `file`")
	check := flag.Bool("check", false, "only check the configuration")
	flag.Parse()
	if *file == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: understudy-dovecot-auth -config FILE [-check]")
		return 2
	}
	cfg := defaultConfig()
	if err := config.Load(*file, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if *check {
		return 0
	}
	log := observe.Logger("dovecot-auth", cfg.LogLevel)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, cfg, log); err != nil {
		log.Error("service ended", "error", err)
		return 1
	}
	return 0
}
