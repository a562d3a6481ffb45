package syslogstore

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpEstablished is the state, of linux/tcp.h, in which both sides can write.
const tcpEstablished = 1

// setUserTimeout bounds how long what was written may stay without an acknowledgement,
// and how long an idle connection's questions may stay without an answer.
func setUserTimeout(network string, rc syscall.RawConn, d time.Duration) error {
	if network == "unix" {
		return nil
	}
	var err error
	if failed := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}); failed != nil {
		return failed
	}
	return err
}

// socketState is how many bytes the receiver's system has not acknowledged (of a socket
// in the file system: its program has not read), and whether both sides are open. Known
// is false where the system does not tell.
func socketState(c net.Conn) (unsent int, open, known bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, false, false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, false, true // it is closed
	}
	_, isUnix := c.(*net.UnixConn)
	err = rc.Control(func(fd uintptr) {
		unsent, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		if err != nil {
			return
		}
		known = true
		if isUnix {
			open = true // the reading goroutine notices its end
			return
		}
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		open = err == nil && info.State == tcpEstablished
	})
	if err != nil {
		return 0, false, true
	}
	return unsent, open, known
}
