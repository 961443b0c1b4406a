// understudy-policyd answers Postfix: the policy delegation protocol and
// socketmap lookups, from the directory in memory. See packages policy and
// socketmap for what is answered when something is down.
//
// It opens its sockets even when it has no directory yet, and then defers
// all mail; it never refuses for want of knowledge.
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

func main() { os.Exit(command(os.Args[1:])) }

// command returns the exit status: 0, 1 (failed), 2 (wrong usage).
func command(args []string) int {
	flags := flag.NewFlagSet("understudy-policyd", flag.ContinueOnError)
	path := flags.String("config", "/etc/understudy/policyd.yml", "configuration `FILE`")
	check := flags.Bool("check", false, "check the configuration and exit")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		if err == nil {
			fmt.Fprintln(os.Stderr, "usage: understudy-policyd -config FILE [-check]")
		}
		return 2
	}
	cfg := defaults()
	if err := config.Load(*path, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if *check {
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := observe.Logger("policyd", cfg.LogLevel)
	if err := run(ctx, cfg, log); err != nil {
		log.Error("ended", "error", err)
		return 1
	}
	return 0
}
