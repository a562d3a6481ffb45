// Package rig is what the programs of bench share: building the product,
// running it as a child process, a plain HTTP/1.1 client that never retries
// in secret, and reading what the product exports.
//
// It knows the product only from the outside: its command line, its
// environment, its JSON. It imports none of the product's packages, so that a
// mistake there cannot hide itself here.
package rig

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/caddy-audit-log/caddy-audit-log"

// Setup is what every program asks of its user.
type Setup struct {
	// Caddy is the build under test; empty builds ./cmd/caddy.
	Caddy string
	// Caddyfile is the configuration; empty is the shipped one.
	Caddyfile string
	// Keep leaves the working directory behind.
	Keep bool
	// Env is added to the build's environment, by tests.
	Env []string
}

// Register adds the shared flags.
func (s *Setup) Register(fs *flag.FlagSet) {
	fs.StringVar(&s.Caddy, "caddy", "", "the `binary` under test (default: build ./cmd/caddy)")
	fs.StringVar(&s.Caddyfile, "caddyfile", "", "the configuration `file` (default: the shipped Caddyfile)")
	fs.BoolVar(&s.Keep, "keep", false, "keep the working directory, as a failed run always does")
}

// Complete makes a working directory and fills in what the user left out.
func (s Setup) Complete(ctx context.Context, name string) (Setup, string, error) {
	// Not below the test's own directory: the path of a unix socket may have
	// only about 100 bytes.
	dir, err := os.MkdirTemp("", "audit-"+name+"-")
	if err != nil {
		return s, "", fmt.Errorf("making the working directory: %w", err)
	}
	if s, err = s.fill(ctx, dir); err != nil {
		return s, "", errors.Join(err, os.RemoveAll(dir))
	}
	return s, dir, nil
}

func (s Setup) fill(ctx context.Context, dir string) (Setup, error) {
	var err error
	if s.Caddy == "" {
		if s.Caddy, err = Build(ctx, dir); err != nil {
			return s, err
		}
	}
	if s.Caddyfile == "" {
		root, err := run(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
		if err != nil {
			return s, fmt.Errorf("finding the shipped Caddyfile (run inside the module, or name one with -caddyfile): %w", err)
		}
		s.Caddyfile = filepath.Join(root, "Caddyfile")
	}
	// The build runs in the working directory, so both must be absolute.
	if s.Caddy, err = filepath.Abs(s.Caddy); err != nil {
		return s, err
	}
	if s.Caddyfile, err = filepath.Abs(s.Caddyfile); err != nil {
		return s, err
	}
	for _, f := range []string{s.Caddy, s.Caddyfile} {
		if _, err := os.Stat(f); err != nil {
			return s, fmt.Errorf("looking for %s: %w", f, err)
		}
	}
	return s, nil
}

// Build builds cmd/caddy into dir.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "caddy")
	if _, err := run(ctx, "go", "build", "-o", path, module+"/cmd/caddy"); err != nil {
		return "", fmt.Errorf("building cmd/caddy (run inside the module, or name a binary with -caddy): %w", err)
	}
	return path, nil
}

// run returns a command's trimmed standard output; its error holds what the
// command said.
func run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", said(err)
	}
	return strings.TrimSpace(string(out)), nil
}

// said adds the last words of a failed command to its error.
func said(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		words := strings.TrimSpace(string(exit.Stderr))
		if len(words) > 2000 {
			words = "… " + words[len(words)-2000:]
		}
		return fmt.Errorf("%w: %s", err, words)
	}
	return err
}
