//go:build linux && root && servers

package commands

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unsafe"
)

// inside is set in the process that is in the sandbox.
const inside = "DOCCHECK_SANDBOX"

// sandboxed is this program once more, in namespaces of its own: it has a network with nothing
// but loopback, so that every port is free and nobody else is met, a tree of processes that ends
// with it, and mounts that only it sees.
func sandboxed(env []string) *exec.Cmd {
	// Not the file that go test keeps its cache by: it would be open for writing there.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile") })
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), append(env, inside+"=1")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd
}

// enterSandbox makes the system one that commands cannot harm: it is read only, but for the
// directories of writable, and the documents' own directories are laid over by one in memory.
func enterSandbox(scratch string, writable []string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	for _, dir := range writable {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("keeping %s writable: %w", dir, err)
		}
	}
	if err := syscall.Mount("tmpfs", scratch, "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, dir := range []string{"/etc", "/usr/local", "/var", "/mnt"} {
		upper := filepath.Join(scratch, strings.ReplaceAll(dir[1:], "/", "-"))
		work := upper + "-work"
		for _, d := range []string{upper, work} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if err := syscall.Mount("overlay", dir, "overlay", 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work); err != nil {
			return fmt.Errorf("laying over %s: %w", dir, err)
		}
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("making / read only, which nothing may have open for writing: %w", err)
	}
	// There is nobody to ask for names.
	if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		return err
	}
	return loopbackUp()
}

func loopbackUp() error {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	request := struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(request.name[:], "lo")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("starting the loopback interface: %w", errno)
	}
	return nil
}
