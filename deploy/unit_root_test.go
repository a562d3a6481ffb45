//go:build root && linux

package deploy

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/bpf"
)

// exposure is what systemd-analyze says of the unit: 0 is a service that may do nothing.
const exposure = 1.1

func TestSystemdTakesTheUnitAndFindsItHardened(t *testing.T) {
	dir := t.TempDir()
	unit := filepath.Join(dir, "caddy-audit.service")
	// It looks for the program where the unit says.
	text := strings.ReplaceAll(read(t, unitFile), "/usr/local/bin/caddy", caddy(t))
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", unit).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, out)
	}
	m := regexp.MustCompile(`Overall exposure level for caddy-audit\.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("it says no level:\n%s", out)
	}
	level, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("exposure %.1f", level)
	if level > exposure {
		t.Errorf("the exposure is %.1f, and was %.1f:\n%s", level, exposure, out)
	}
}

// There is no systemd to run the unit here. bubblewrap makes what its options make: another
// user without capabilities, a system that can be read only, directories of its own, no
// new privileges, and the same filter of system calls.
func TestTheShippedCaddyfileRunsUnderTheUnitsRestrictions(t *testing.T) {
	d := directives(t, unitFile)
	dir := short(t)
	if err := os.Chmod(dir, 0o755); err != nil { // another user looks into it
		t.Fatal(err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	for _, name := range []string{"state", "run"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, name), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(read(t, "../Caddyfile")), 0o644); err != nil {
		t.Fatal(err)
	}
	filter, err := os.Create(filepath.Join(dir, "filter"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filter.Write(seccomp(t, d["Service.SystemCallFilter"])); err != nil {
		t.Fatal(err)
	}

	bubble := func(args ...string) *exec.Cmd {
		if _, err := filter.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("bwrap", append([]string{
			"--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/home", "--tmpfs", "/root",
			"--tmpfs", "/var", "--dir", "/var/lib", "--bind", filepath.Join(dir, "state"), "/var/lib/caddy-audit",
			"--tmpfs", "/run", "--bind", filepath.Join(dir, "run"), "/run/caddy-audit",
			"--tmpfs", "/etc", "--dir", "/etc/caddy-audit", "--ro-bind", config, "/etc/caddy-audit/Caddyfile",
			"--remount-ro", "/etc", "--remount-ro", "/var", "--remount-ro", "/run",
			"--tmpfs", "/mnt", "--ro-bind", caddy(t), "/mnt/caddy", "--chdir", "/var/lib/caddy-audit",
			"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL", "--die-with-parent", "--new-session",
			"--seccomp", "3", "--",
		}, args...)...)
		cmd.ExtraFiles = []*os.File{filter} // 3
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), NoSetGroups: false}}
		return cmd
	}

	// That it is so restricted is seen first.
	out, err := bubble("cat", "/proc/self/status").CombinedOutput()
	for _, want := range []string{"Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "Uid:\t" + nobody.Uid} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("it is not %q: %v\n%s", want, err, out)
		}
	}
	for _, command := range [][]string{{"touch", "/usr/planted"}, {"touch", "/etc/planted"}, {"touch", "/var/lib/planted"}, {"chroot", "/", "true"}} {
		if err := bubble(command...).Run(); err == nil {
			t.Fatalf("%v is let through", command)
		}
	}

	api := stub(t)
	i := &instance{t: t}
	i.environment(dir, "PLATFORM_API="+api)
	i.env = append(i.env, unitEnvironment(d)...) // the last one counts
	start := strings.Fields(only(t, d, "Service.ExecStart"))
	reload := strings.Fields(only(t, d, "Service.ExecReload"))
	i.start(bubble(append([]string{"/mnt/caddy"}, start[1:]...)...))
	if status := call(t, "POST", "http://"+i.calls+"/v1/projects"); status != 200 {
		t.Errorf("a call got %d: %s", status, i.out)
	}

	run := func(args ...string) string {
		t.Helper()
		cmd := bubble(append([]string{"/mnt/caddy"}, args...)...)
		cmd.Env = i.env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run(reload[1:]...)
	if status := call(t, "POST", "http://"+i.calls+"/v1/projects"); status != 200 {
		t.Errorf("after a reload a call got %d: %s", status, i.out)
	}
	run("audit", "drain", "--wait", "--timeout", "30s", "--address", "unix//run/caddy-audit/admin.sock")
	if n := strings.Count(run("audit", "export", "--config", "/etc/caddy-audit/Caddyfile"), `"method":"POST"`); n != 2 {
		t.Errorf("%d of 2 calls are recorded", n)
	}
	// bubblewrap's own end says nothing of the program's, which its signal reaches by the end of its parent.
	_ = i.end(syscall.SIGTERM)
}

// seccomp is a filter for bubblewrap that lets through what the unit's filter does, and
// answers everything else by EPERM, as the unit says.
func seccomp(t *testing.T, lines []string) []byte {
	t.Helper()
	allowed := map[string]bool{}
	for _, line := range lines {
		deny := strings.HasPrefix(line, "~")
		for set := range strings.FieldsSeq(strings.TrimPrefix(line, "~")) {
			for name := range syscalls(t, set) {
				if deny {
					delete(allowed, name)
				} else {
					allowed[name] = true
				}
			}
		}
	}
	var numbers []uint32
	for name := range allowed {
		// Those of other architectures are not known here.
		out, err := exec.Command("scmp_sys_resolver", name).Output()
		if err != nil {
			t.Fatalf("scmp_sys_resolver %s: %v", name, err)
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(out))); err == nil && n >= 0 {
			numbers = append(numbers, uint32(n))
		}
	}
	if len(numbers) < 100 {
		t.Fatalf("the filter lets only %d system calls through", len(numbers))
	}
	const allow, errno = 0x7fff0000, 0x00050000
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: 0, Size: 4}} // the number; bubblewrap adds the architecture
	for _, n := range numbers {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: n, SkipTrue: 1}, bpf.RetConstant{Val: allow})
	}
	program = append(program, bpf.RetConstant{Val: errno | uint32(syscall.EPERM)})
	raw, err := bpf.Assemble(program)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, r := range raw {
		if err := binary.Write(&b, binary.NativeEndian, struct {
			Op     uint16
			Jt, Jf uint8
			K      uint32
		}{r.Op, r.Jt, r.Jf, r.K}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d system calls are let through on %s", len(numbers), runtime.GOARCH)
	return b.Bytes()
}

// syscalls are the names in one of systemd's sets, and in those that it has.
func syscalls(t *testing.T, set string) map[string]bool {
	t.Helper()
	out, err := exec.Command("systemd-analyze", "syscall-filter", "--no-pager", set).Output()
	if err != nil {
		t.Fatalf("systemd-analyze syscall-filter %s: %v", set, err)
	}
	names := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line == set:
		case strings.HasPrefix(line, "@"):
			for name := range syscalls(t, line) {
				names[name] = true
			}
		default:
			names[line] = true
		}
	}
	return names
}
