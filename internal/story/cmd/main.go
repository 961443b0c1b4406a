// Command demo plays the outage story on a running scratch stack.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"understudy/internal/story"
)

func main() {
	file := flag.String("stack", ".run/stack.json", "the stack's description, written by make up")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *file); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file string) error {
	s, err := story.New(file, os.Stdout)
	if err != nil {
		return err
	}
	return s.Play(ctx)
}
