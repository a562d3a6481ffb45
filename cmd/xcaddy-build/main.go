// Command xcaddy-build builds Caddy from xcaddy.json, which is a serialised
// xcaddy.Builder. xcaddy itself reads no such file: its own command takes the
// same facts as flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

const usage = `Builds Caddy with the plugins that a build file names.

Usage:
  xcaddy-build [-config FILE] [-local] [-o PATH]

Examples:
  # In a checkout: build what is checked out.
  go run ./cmd/xcaddy-build -local -o ./caddy

  # Anywhere: build the published versions.
  xcaddy-build -config xcaddy.json -o ./caddy

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "xcaddy-build:", err)
		os.Exit(1)
	}
}

// run is main without the process: it parses the arguments, builds, and says
// on w what it does.
func run(ctx context.Context, args []string, w io.Writer) error {
	flags := flag.NewFlagSet("xcaddy-build", flag.ContinueOnError)
	flags.SetOutput(w)
	config := flags.String("config", "xcaddy.json", "the build `FILE`: a serialised xcaddy.Builder")
	local := flags.Bool("local", false, "take the module whose go.mod stands beside the build file from there, not from where it is published")
	output := flags.String("o", defaultOutput(), "where to write the binary, a `PATH`")
	flags.Usage = func() {
		fmt.Fprint(w, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("reading arguments: %q is not a flag; -h lists the flags", flags.Arg(0))
	}
	// Seen now, this costs nothing; seen by the linker, it costs the whole build.
	if info, err := os.Stat(*output); err == nil && info.IsDir() {
		return fmt.Errorf("writing %s: it is a directory; give -o the path of a file", *output)
	}

	recipe, err := load(*config)
	if err != nil {
		return err
	}
	if *local {
		if err := recipe.useCheckout(); err != nil {
			return err
		}
	}
	if err := recipe.build(ctx, *output, w); err != nil {
		return err
	}
	path, err := filepath.Abs(*output)
	if err != nil {
		path = *output
	}
	fmt.Fprintf(w, "built %s: Caddy %s with %v\n", path, recipe.CaddyVersion, recipe.Plugins)
	return nil
}

func defaultOutput() string {
	if runtime.GOOS == "windows" {
		return "caddy.exe"
	}
	return "caddy"
}
