// Command understudy-admin is the operator's command line and the website
// (understudy-admin serve).
//
// It is no part of the mail path. When PostgreSQL is down it says so, within
// seconds: the command line with exit status 1, the website with a page.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"understudy/admin/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
