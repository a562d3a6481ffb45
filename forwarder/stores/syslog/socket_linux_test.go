package syslogstore

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

func TestAMachineThatIsGoneIsFound(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	s := open(t, Config{URL: "tcp://" + r.addr, Timeout: 7 * time.Second})
	write(t, s, records(t, 1, 1))
	rc, err := s.conn.raw.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	rc.Control(func(fd uintptr) {
		for name, option := range map[string][2]int{
			"user timeout": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}, "keep alive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
			"idle": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, "interval": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
		} {
			if got[name], err = unix.GetsockoptInt(int(fd), option[0], option[1]); err != nil {
				t.Error(err)
			}
		}
	})
	if got["user timeout"] != 7000 || got["keep alive"] != 1 || got["idle"] != 10 || got["interval"] != 5 {
		t.Errorf("options %v", got)
	}
}

// What the receiver's system has not acknowledged is not written.
func TestTheSystemTellsWhatIsAcknowledged(t *testing.T) {
	r := newReceiver(t, "tcp", ports.ForTest(t), nil)
	s := open(t, Config{URL: "tcp://" + r.addr})
	letGo := r.hold(time.Hour)
	defer letGo()
	write(t, s, records(t, 1, 1))
	if unsent, open, known := socketState(s.conn.raw); unsent != 0 || !open || !known {
		t.Errorf("after a batch: %d bytes, open %v, known %v", unsent, open, known)
	}
	much := append([]byte("99999999 "), make([]byte, 64<<20)...)
	s.conn.raw.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	s.conn.raw.Write(much)
	if unsent, _, _ := socketState(s.conn.raw); unsent == 0 {
		t.Error("nothing waits for a receiver that does not read")
	}
	r.stop()
	if _, open, _ := socketState(s.conn.raw); open {
		t.Error("the connection is open after the receiver has closed it")
	}
	if err := s.conn.alive(); err == nil {
		t.Error("the connection is alive after the receiver has closed it")
	}
}
