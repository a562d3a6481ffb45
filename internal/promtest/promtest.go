// Package promtest finds the real Prometheus and Alertmanager for tests and benches, out of
// Debian's packages, which are unpacked and not installed.
package promtest

import (
	"context"
	"os/exec"
	"path/filepath"

	"github.com/caddy-audit-log/caddy-audit-log/internal/program"
)

// Programs are the files of those that were found.
type Programs struct {
	Promtool, Prometheus, Alertmanager string
	// share is what stands for /usr/share where they are unpacked; empty where they are
	// installed.
	share string
}

// shared shows the unpacked /usr/share to one program alone.
const shared = `mount -t overlay none -o "lowerdir=$0:/usr/share" /usr/share && exec "$@"`

// AlertmanagerCommand runs it. Debian's looks for its templates below /usr/share: unpacked
// it needs root, and has a view of the filesystem of its own.
func (p *Programs) AlertmanagerCommand(ctx context.Context, args ...string) *exec.Cmd {
	if p.share == "" {
		return exec.CommandContext(ctx, p.Alertmanager, args...) //nolint:gosec // a program of Debian's
	}
	args = append([]string{"--mount", "--propagation", "private", "sh", "-c", shared, p.share, p.Alertmanager}, args...)
	return exec.CommandContext(ctx, "unshare", args...) //nolint:gosec // a program of Debian's
}

// Find returns the programs that PATH has, or else unpacks those of Debian, which takes
// some seconds and the network, once.
func Find(ctx context.Context) (*Programs, error) {
	if p := installed(); p != nil {
		return p, nil
	}
	root, err := program.Debian(ctx, "prometheus", "prometheus-alertmanager")
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(root, "usr", "bin")
	return &Programs{
		Promtool: filepath.Join(bin, "promtool"), Prometheus: filepath.Join(bin, "prometheus"),
		Alertmanager: filepath.Join(bin, "prometheus-alertmanager"), share: filepath.Join(root, "usr", "share"),
	}, nil
}

// installed is nil unless all of them are in PATH.
func installed() *Programs {
	p := &Programs{}
	for name, file := range map[string]*string{"promtool": &p.Promtool, "prometheus": &p.Prometheus} {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil
		}
		*file = path
	}
	for _, name := range []string{"alertmanager", "prometheus-alertmanager"} { // the second is Debian's
		if path, err := exec.LookPath(name); err == nil {
			p.Alertmanager = path
			return p
		}
	}
	return nil
}
