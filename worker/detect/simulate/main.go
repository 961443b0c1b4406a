// Simulate plays many domains whose primaries fail at random through the
// decisions of package detect, on a simulated clock, and writes what came of
// it: docs/detection-simulation.md. It needs nothing, and the same flags give
// the same report on every machine.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
)

func main() {
	c := config{}
	flag.IntVar(&c.domains, "domains", 10_000, "how many domains")
	flag.IntVar(&c.days, "days", 30, "over how many days")
	flag.Uint64Var(&c.seed, "seed", 1, "of chance")
	file := flag.String("o", "docs/detection-simulation.md", "the report")
	flag.Parse()
	f, err := os.Create(*file)
	if err == nil {
		out := bufio.NewWriter(f)
		write(out, c, run(c))
		if err = out.Flush(); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}
