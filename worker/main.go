// Command understudy-worker does all that is not on the mail path: it indexes
// the archive, probes the primaries and switches modes, re-routes deferred
// mail, and drains the portal after an emergency.
//
// Without PostgreSQL it waits, says so on /healthz, and goes on by itself;
// mail does not depend on it. Of several workers one leads (probes, switches,
// indexes); all work jobs.
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

func main() { os.Exit(start(os.Args[1:])) }

// start returns the exit code: 0, 1 after an error, 2 for wrong usage.
func start(args []string) int {
	flags := flag.NewFlagSet("understudy-worker", flag.ContinueOnError)
	file := flags.String("config", "/etc/understudy/worker.yml", "configuration `file`")
	check := flags.Bool("check", false, "only check the configuration")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		if err == nil {
			fmt.Fprintln(os.Stderr, "understudy-worker: unexpected argument:", flags.Arg(0))
		}
		return 2
	}
	cfg := defaults()
	if err := config.Load(*file, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "understudy-worker:", err)
		return 1
	}
	if *check {
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := observe.Logger("worker", cfg.LogLevel)
	if err := run(ctx, cfg, log); err != nil {
		log.Error("worker ends", "error", err)
		return 1
	}
	return 0
}
