package ports

import (
	"net"
	"testing"
	"time"
)

func TestABlockOfPortsIsNotTakenTwice(t *testing.T) {
	own, err := Free(3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{own[0] / blockSize: true}
	for range 3 {
		// As a process would whose number leads to the same block.
		l, err := takeBlock(own[0]/blockSize - firstPort/blockSize)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		if seen[port/blockSize] || port%blockSize != 0 {
			t.Errorf("port %d is of a block that is taken, or not its first", port)
		}
		seen[port/blockSize] = true
	}
	for _, port := range own {
		if !seen[port/blockSize] || port%blockSize == 0 {
			t.Errorf("port %d is not of this process's block %v, or is what keeps others out", port, own)
		}
	}
}

func TestAPortThatIsStillTakenIsWaitedFor(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = l.Close() })
	again, err := ListenAgain(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
