// Package program builds programs that tests and benches run and that are no part of
// this module: servers to talk to, proxies that break the network. go.mod does not
// know them.
package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// Go builds the main package at a path with a version, as in
// "example.com/tool/cmd/server@v1.2.3", and returns the program's file. It is built
// once: it stays in the user's cache directory, under that name and the version of Go.
// It may be called by several processes at a time. It takes what building takes, which
// can be minutes; when ctx ends, so does that.
func Go(ctx context.Context, pkg string) (string, error) {
	return Cached(ctx, pkg, func(ctx context.Context, dir string) (string, error) {
		name, _, versioned := strings.Cut(pkg, "@")
		if !versioned {
			return "", errors.New("it has no version: add one, as in @v1.2.3")
		}
		// Outside of the module.
		cmd := exec.CommandContext(ctx, "go", "install", "-trimpath", pkg) //nolint:gosec // a package that a test or a bench names
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod", "GOWORK=off", "GOOS=", "GOARCH=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return filepath.Join(dir, binary(name)), nil
	})
}

// Cached is a program of another making: build makes it in an empty directory, which
// is removed afterwards, and returns its file. The key is all that makes it another
// program.
func Cached(ctx context.Context, key string, build func(ctx context.Context, dir string) (string, error)) (file string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("building %s: %w", key, err)
		}
	}()
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "caddy-audit-log", "programs")
	file = filepath.Join(cache, strings.NewReplacer("/", "+", "\\", "+", ":", "+").Replace(key)+"-"+runtime.Version())
	if runtime.GOOS == "windows" {
		file += ".exe"
	}
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	built, err := build(ctx, dir)
	if err != nil {
		return "", err
	}
	// Whole or not at all, also where two build it.
	return file, os.Rename(built, file)
}

// binary is what go install calls a main package's program.
func binary(pkg string) string {
	name := path.Base(pkg)
	if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" { // a major version
		name = path.Base(path.Dir(pkg))
	}
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return name
}
