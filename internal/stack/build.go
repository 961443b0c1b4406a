package stack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// sources are the packages of the components that are built.
var sources = map[Component]string{
	Milter: "./milter", Policyd: "./policyd", DovecotAuth: "./dovecot-auth", Worker: "./worker", Admin: "./admin",
}

// Tool is the file name of this stack's own command.
const Tool = "understudy-stack"

// binary is a service's file name.
func binary(c Component) string { return "understudy-" + string(c) }

// Build compiles the services among components (all, if none are named) and
// the stack's own command into bin. flags are added to "go build", such as -race.
func Build(ctx context.Context, repoRoot, bin string, components []Component, flags ...string) error {
	if len(components) == 0 {
		components = Components()
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	// One run of the compiler for all: they share most of what is compiled.
	// Each file is named after its folder, and then as it should be.
	names := map[string]string{"cmd": Tool}
	packages := []string{"./internal/stack/cmd"}
	for _, c := range components {
		if pkg, ok := sources[c]; ok {
			packages = append(packages, pkg)
			names[filepath.Base(pkg)] = binary(c)
		}
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	args := append(append([]string{"build", "-buildvcs=false"}, flags...), "-o", bin+"/")
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Dir = repoRoot
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the services: %w%s", err, indent(string(out)))
	}
	for from, to := range names {
		if err := os.Rename(filepath.Join(bin, from), filepath.Join(bin, to)); err != nil {
			return fmt.Errorf("build the services: %w", err)
		}
	}
	return nil
}
