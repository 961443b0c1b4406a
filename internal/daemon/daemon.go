// Package daemon is the main function that the daemons share: flags,
// configuration, signals, exit status.
package daemon

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"understudy/internal/config"
	"understudy/internal/observe"
)

// Config is a daemon's configuration; config.Common gives it Level.
type Config interface {
	config.Validator
	Level() string
}

// Main runs the daemon understudy-NAME until SIGTERM or SIGINT and exits: 0,
// 1 (it failed, with a reason on standard error) or 2 (wrong usage). With
// -check it only reads the file. cfg holds the defaults.
func Main[C Config](name string, cfg C, run func(ctx context.Context, cfg C, log *slog.Logger) error) {
	os.Exit(command(os.Args[1:], name, cfg, run))
}

func command[C Config](args []string, name string, cfg C, run func(context.Context, C, *slog.Logger) error) int {
	program := "understudy-" + name
	flags := flag.NewFlagSet(program, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: %s [-config FILE] [-check]\n", program)
		flags.PrintDefaults()
	}
	file := flags.String("config", "/etc/understudy/"+name+".yml", "configuration `FILE`")
	check := flags.Bool("check", false, "only check the configuration")
	if flags.Parse(args) != nil {
		return 2 // said by flags
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "%s: unexpected argument %q\n", program, flags.Arg(0))
		flags.Usage()
		return 2
	}
	if err := config.Load(*file, cfg); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		return 1
	}
	if *check {
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := observe.Logger(name, cfg.Level())
	if err := run(ctx, cfg, log); err != nil {
		log.Error("ended", "error", err)
		return 1
	}
	return 0
}
