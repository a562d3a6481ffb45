// Package ports gives tests and benches ports of the loopback interface that nobody else on
// the machine is given: not another process that asks here, and not a client of anybody's.
package ports

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Host is the only address that anything here listens on or talks to.
const Host = "127.0.0.1"

// Ports are given out below the range from which systems take the ports of
// outgoing connections: a client that dials such a port while the server is
// down may be given that very port, connect to itself and keep the server
// from coming back.
const (
	firstPort = 12000
	blocks    = 180
	blockSize = 100
)

// nextPort counts within this process's block.
var nextPort atomic.Uint32

// block belongs to this process alone until it ends.
var block = sync.OnceValues(func() (net.Listener, error) { return takeBlock(os.Getpid()) })

// takeBlock takes the next free block by listening on its first port. Without
// that, the port of a build that is down for a moment would be free for others,
// who would then get the calls of our clients.
func takeBlock(from int) (net.Listener, error) {
	var last error
	for i := range blocks {
		base := firstPort + (from+i)%blocks*blockSize
		l, err := net.Listen("tcp", Address(base))
		if err == nil {
			return l, nil
		}
		last = err
	}
	return nil, fmt.Errorf("finding a free block of ports on %s from %d to %d: %w", Host, firstPort, firstPort+blocks*blockSize-1, last)
}

// Listen listens on the next free port of this process's block.
func Listen() (net.Listener, error) {
	lock, err := block()
	if err != nil {
		return nil, err
	}
	base := lock.Addr().(*net.TCPAddr).Port
	var last error
	for range blockSize {
		port := base + 1 + int(nextPort.Add(1))%(blockSize-1)
		l, err := net.Listen("tcp", Address(port))
		if err == nil {
			return l, nil
		}
		last = err
	}
	return nil, fmt.Errorf("finding a free port on %s from %d to %d: %w", Host, base, base+blockSize-1, last)
}

// Free returns n free ports, no two of them the same.
func Free(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := Listen()
		if err != nil {
			return nil, err
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("giving port %d free again: %w", ports[i], err)
		}
	}
	return ports, nil
}

// Addresses returns n addresses on free ports, no two of them the same.
func Addresses(n int) ([]string, error) {
	free, err := Free(n)
	addresses := make([]string, len(free))
	for i, port := range free {
		addresses[i] = Address(port)
	}
	return addresses, err
}

// ForTest returns an address on a free port; a test that gets none fails.
func ForTest(t testing.TB) string {
	t.Helper()
	free, err := Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	return free[0]
}

// Address is a port of Host.
func Address(port int) string { return net.JoinHostPort(Host, strconv.Itoa(port)) }

// ListenAgain listens on a port that Free has given, or that was listened on before. While
// another process is being started it has a copy of all that this one has open, until it
// becomes another program: a listener that was closed in that moment still has its port.
func ListenAgain(addr string) (net.Listener, error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		l, err := net.Listen("tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return l, err
		}
	}
}
