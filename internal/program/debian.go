package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Debian unpacks Debian's packages of these names, with none that they depend on, and
// returns the directory that stands for their root. They are not installed: two that
// exclude each other can be used side by side, and no service is started. They are
// unpacked once: they stay in the user's cache directory. What apt knows of packages
// must be there (apt-get update).
func Debian(ctx context.Context, packages ...string) (root string, err error) {
	return Cached(ctx, "debian/"+strings.Join(packages, "+"), func(ctx context.Context, dir string) (string, error) {
		if out, err := command(ctx, dir, "apt-get", append([]string{"download", "-q"}, packages...)...); err != nil {
			return "", fmt.Errorf("downloading packages (apt-get update may help): %w: %s", err, out)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(files) != len(packages) {
			return "", errors.Join(err, fmt.Errorf("downloading packages: there are %d of %d", len(files), len(packages)))
		}
		root := filepath.Join(dir, "root")
		if err := os.Mkdir(root, 0o700); err != nil {
			return "", err
		}
		for _, file := range files {
			if out, err := command(ctx, dir, "dpkg-deb", "-x", file, root); err != nil {
				return "", fmt.Errorf("unpacking %s: %w: %s", filepath.Base(file), err, out)
			}
		}
		return root, nil
	})
}

func command(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // names of packages and files that are ours
	cmd.Dir = dir
	return cmd.CombinedOutput()
}
