package syslogstore

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
)

// wire is a network between a store and its receiver, which can break.
type wire struct {
	to string
	l  net.Listener

	mu    sync.Mutex
	ended sync.WaitGroup
	pairs map[[2]net.Conn]bool
	// from are the store's ends by the host that the receiver sees, one for each
	// connection: all of 127.0.0.0/8 is this machine.
	from  map[string]string
	count int
	// cut is after how many more bytes the next connection is reset; negative is never.
	cut int
	// cutting is held until the receiver has read what came before a reset. Who else would read
	// from the next connection meanwhile could get it out of order, whatever the store does.
	cutting sync.Mutex
}

func newWire(t testing.TB, to string) *wire {
	t.Helper()
	l, err := ports.Listen()
	if err != nil {
		t.Fatal(err)
	}
	forgetLegacies(l.Addr().String())
	w := &wire{to: to, l: l, cut: -1, pairs: map[[2]net.Conn]bool{}, from: map[string]string{}}
	w.ended.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.ended.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.drop()
		w.ended.Wait()
	})
	return w
}

func (w *wire) addr() string { return w.l.Addr().String() }

// carry passes on what comes from both sides, half closes too.
func (w *wire) carry(store net.Conn) {
	defer store.Close()
	w.mu.Lock()
	w.count++
	host := net.IPv4(127, 1, byte(w.count>>8), byte(w.count))
	w.from[host.String()] = store.RemoteAddr().String()
	w.mu.Unlock()
	w.cutting.Lock()
	receiver, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: host}}).Dial("tcp", w.to)
	w.cutting.Unlock()
	if err != nil {
		return
	}
	defer receiver.Close()
	pair := [2]net.Conn{store, receiver}
	w.mu.Lock()
	w.pairs[pair] = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.pairs, pair)
		w.mu.Unlock()
	}()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, err := io.Copy(store, receiver)
		if err != nil {
			store.(*net.TCPConn).SetLinger(0)
			store.Close()
		} else {
			store.(*net.TCPConn).CloseWrite()
		}
	}()
	w.forth(store, receiver)
	<-back
}

func (w *wire) forth(store, receiver net.Conn) {
	b := make([]byte, 4<<10)
	for {
		n, err := store.Read(b)
		w.mu.Lock()
		cut := w.cut >= 0 && w.cut < n
		if cut {
			n = w.cut
			w.cut = -1
		} else if w.cut >= 0 {
			w.cut -= n
		}
		w.mu.Unlock()
		if _, failed := receiver.Write(b[:n]); failed != nil {
			store.(*net.TCPConn).SetLinger(0)
			store.Close()
			return
		}
		if cut {
			w.cutting.Lock()
			defer w.cutting.Unlock()
			store.(*net.TCPConn).SetLinger(0)
			store.Close()
			receiver.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, receiver) // until it closes, or all is dropped
			return
		}
		if err != nil {
			receiver.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// cutAfter resets the connection after so many more bytes.
func (w *wire) cutAfter(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = n
}

// drop closes all connections.
func (w *wire) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for pair := range w.pairs {
		pair[0].Close()
		pair[1].Close()
	}
}

// storeOf is the store's end of a connection that the receiver knows by its host.
func (w *wire) storeOf(host string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.from[host]
}
