// Command understudy-worker does all that is not on the mail path: it indexes
// the archive, probes the primaries and switches modes, re-routes deferred
// mail, and drains the portal after an emergency.
//
// Without PostgreSQL it waits, says so on /healthz, and goes on by itself;
// mail does not depend on it. Of several workers one leads (probes, switches,
// indexes); all work jobs.
package main

import "understudy/internal/daemon"

func main() { daemon.Main("worker", defaults(), run) }
