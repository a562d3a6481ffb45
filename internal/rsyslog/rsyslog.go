// Package rsyslog runs the real syslog receiver of that name for tests and benches, out
// of Debian's packages, which are unpacked and not installed.
package rsyslog

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/internal/program"
)

// packages are rsyslog and what it needs beyond what each system has.
var packages = []string{"rsyslog", "rsyslog-gnutls", "libestr0", "libfastjson4", "liblognorm5"}

// Program is an rsyslogd that is there.
type Program struct {
	path, modules, env string
}

// Find unpacks the program, unless it is there. That takes some seconds and the network.
func Find(ctx context.Context) (*Program, error) {
	root, err := program.Debian(ctx, packages...)
	if err != nil {
		return nil, err
	}
	modules, err := filepath.Glob(filepath.Join(root, "usr/lib/*/rsyslog"))
	if err != nil || len(modules) != 1 {
		return nil, fmt.Errorf("looking for the modules of rsyslog in %s: there is not one directory of them", root)
	}
	libraries := []string{filepath.Dir(modules[0]), filepath.Join(root, "lib", filepath.Base(filepath.Dir(modules[0])))}
	return &Program{
		path: filepath.Join(root, "usr/sbin/rsyslogd"), modules: modules[0],
		env: "LD_LIBRARY_PATH=" + strings.Join(libraries, ":"),
	}, nil
}

// Command runs it with a configuration, in the foreground. One that was killed leaves its
// file with the process ID, which is removed here.
func (p *Program) Command(conf, pid string) *exec.Cmd {
	_ = os.Remove(pid)                                                        // most often there is none
	cmd := exec.Command(p.path, "-n", "-f", conf, "-i", pid, "-M", p.modules) //nolint:gosec,noctx // a test's own files; whoever starts it ends it
	cmd.Env = append(os.Environ(), p.env)
	return cmd
}
