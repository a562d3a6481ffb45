package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/xcaddy"
	"golang.org/x/mod/modfile"
)

// recipe is a build file and where it was read.
type recipe struct {
	xcaddy.Builder
	file string
	dir  string // absolute: xcaddy works in a directory of its own

	// checkout is the module that -local takes from dir, or empty.
	checkout string
}

// load reads a build file. Relative replacements count from the file's own
// directory, so that the file means the same wherever the command is run.
func load(file string) (*recipe, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the build file: %w; run this at the root of the checkout, or name the file with -config", err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the build file: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("locating %s: %w", file, err)
	}
	r := &recipe{file: file, dir: dir}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	// A misspelt key would otherwise build something else without a word.
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r.Builder); err != nil {
		return nil, fmt.Errorf("decoding %s: %w%s; its keys are those of xcaddy.Builder", file, err, position(data, err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("decoding %s: something follows the object; keep one object", file)
	}
	if r.CaddyVersion == "" {
		return nil, fmt.Errorf("decoding %s: caddy_version is empty, which would build whatever is newest; name a version", file)
	}
	if len(r.Plugins) == 0 {
		return nil, fmt.Errorf("decoding %s: plugins is empty, which would build plain Caddy; name a module_path", file)
	}
	for i, p := range r.Plugins {
		if p.PackagePath == "" {
			return nil, fmt.Errorf("decoding %s: plugin %d has no module_path; name one", file, i+1)
		}
	}
	for i, replacement := range r.Replacements {
		path := replacement.New.String()
		if modfile.IsDirectoryPath(path) && !filepath.IsAbs(path) {
			r.Replacements[i].New = xcaddy.ReplacementPath(filepath.Join(dir, path))
		}
	}
	return r, nil
}

// position says where in data a JSON error stands, as ", line 3", if the
// error knows.
func position(data []byte, err error) string {
	offset := int64(-1)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = e.Offset
	}
	if offset < 0 || offset > int64(len(data)) {
		return ""
	}
	return fmt.Sprintf(", line %d", 1+strings.Count(string(data[:offset]), "\n"))
}

// useCheckout replaces the module that the build file belongs to by its
// directory. The file does not say this itself, so that it is also right for
// those who have the file and not the checkout.
func (r *recipe) useCheckout() error {
	data, err := os.ReadFile(filepath.Join(r.dir, "go.mod"))
	if err != nil {
		return fmt.Errorf("finding the checkout of %s: %w; -local needs the go.mod beside the build file, leave it out to build published versions", r.file, err)
	}
	module := modfile.ModulePath(data)
	if module == "" {
		return fmt.Errorf("reading %s: it names no module; add a module line", filepath.Join(r.dir, "go.mod"))
	}
	for _, p := range r.Plugins {
		if p.PackagePath == module || strings.HasPrefix(p.PackagePath, module+"/") {
			r.checkout = module
			r.Replacements = append(r.Replacements, xcaddy.NewReplace(module, r.dir))
			return nil
		}
	}
	return fmt.Errorf("replacing %s: no plugin in %s belongs to it; leave out -local, or add the plugin", module, r.file)
}

// build runs the builder and copies what it says to w.
func (r *recipe) build(ctx context.Context, output string, w io.Writer) error {
	var work string // xcaddy's directory, which only its log tells
	r.OnStep = func(event *xcaddy.StepEvent) error {
		lines := bufio.NewScanner(event.Output)
		for lines.Scan() {
			if _, path, ok := strings.Cut(lines.Text(), "[INFO] Temporary folder: "); ok {
				work = path
			}
			fmt.Fprintln(w, lines.Text())
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("reading the output of the build: %w", err)
		}
		if event.Step == xcaddy.StepInitializeModule && r.checkout != "" {
			return r.requireCheckout(work)
		}
		return nil
	}
	if err := r.Build(ctx, output); err != nil {
		return fmt.Errorf("building Caddy %s from %s: %w; the lines above say what went wrong", r.CaddyVersion, r.file, err)
	}
	return nil
}

// requireCheckout makes the build's module require the replaced one. With a
// replacement alone the go command still asks the proxy whether a plugin in a
// subdirectory is a module of its own, and a proxy or a network that does not
// answer plainly "no" ends the build. The checksums of the checkout come
// along: what was tested is what is built, and no checksum has to be asked for.
func (r *recipe) requireCheckout(work string) error {
	if work == "" {
		return errors.New("requiring the checkout: xcaddy did not say which directory it works in; pin xcaddy to the version in go.mod")
	}
	path := filepath.Join(work, "go.mod")
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("requiring the checkout: %w", err)
	}
	file, err := modfile.Parse(path, data, nil)
	if err != nil {
		return fmt.Errorf("requiring the checkout: %w", err)
	}
	// Any version does: the replacement stands for all of them.
	if err := file.AddRequire(r.checkout, "v0.0.0"); err != nil {
		return fmt.Errorf("requiring the checkout: %w", err)
	}
	if data, err = file.Format(); err != nil {
		return fmt.Errorf("requiring the checkout: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("requiring the checkout: %w", err)
	}

	sums, err := os.ReadFile(filepath.Join(r.dir, "go.sum"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the checksums of the checkout: %w", err)
	}
	if err := os.WriteFile(filepath.Join(work, "go.sum"), sums, 0o600); err != nil {
		return fmt.Errorf("copying the checksums of the checkout: %w", err)
	}
	return nil
}
