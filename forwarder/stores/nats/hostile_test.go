package natsstore

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// listen serves each connection with f until the test ends.
func listen(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "nats://" + l.Addr().String()
}

const info = `INFO {"server_id":"x","version":"2.15.3","headers":true,"max_payload":1048576,"proto":1}` + "\r\n"

// TestAServerThatIsNoneIsAnError opens a store on what says anything but NATS.
func TestAServerThatIsNoneIsAnError(t *testing.T) {
	for what, f := range map[string]func(net.Conn){
		"closes":           func(net.Conn) {},
		"speaks HTTP":      func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"says nonsense":    func(c net.Conn) { io.WriteString(c, "\x00\xff\r\n") },
		"has no JSON":      func(c net.Conn) { io.WriteString(c, "INFO {\r\n"); io.Copy(io.Discard, c) },
		"lets nobody in":   func(c net.Conn) { io.WriteString(c, info+"-ERR 'Authorization Violation'\r\n"); io.Copy(io.Discard, c) },
		"repeats a secret": func(c net.Conn) { io.WriteString(c, info); echo(c) },
		"shouts": func(c net.Conn) {
			io.WriteString(c, info+"-ERR '"+strings.Repeat("\x1b[31mx", 2000)+"'\r\n")
			io.Copy(io.Discard, c)
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := Config{Servers: []string{listen(t, f)}, Token: "{env.T}", Resolve: placeholders{"{env.T}": "planted-token"}.resolve}
			_, err := Open(t.Context(), c, nil)
			mentions(t, err, "opening audit store")
			if err != nil && (strings.Contains(err.Error(), "planted-token") || len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\x1b\r\n\x00")) {
				t.Errorf("the error is not fit for a log: %q", err)
			}
		})
	}
}

// echo gives what it is told back as an error.
func echo(c net.Conn) {
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil {
		fmt.Fprintf(c, "-ERR '%s'\r\n", strings.TrimSpace(line))
	}
	io.Copy(io.Discard, c)
}

func TestAServerThatNeverStopsTalkingIsCutOff(t *testing.T) {
	sent := make(chan int64, 16)
	url := listen(t, func(c net.Conn) {
		n, _ := io.Copy(c, io.MultiReader(strings.NewReader("INFO {"), endless{}))
		sent <- n
	})
	_, err := Open(t.Context(), Config{Servers: []string{url}}, nil)
	if err == nil {
		t.Fatal("it was opened")
	}
	// What lies in the kernel's buffers was sent and not read.
	if n := <-sent; n > greeting+32<<20 {
		t.Errorf("%d bytes were taken, want no more than about %d", n, greeting)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestOpeningEndsWithItsContext(t *testing.T) {
	url := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) }) // and never says INFO
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := Open(ctx, Config{Servers: []string{url, strings.Replace(url, "127.0.0.1", "localhost", 1)}}, nil)
	mentions(t, err, "broken off")
}

// TestAServerThatDoesNotReadHoldsNobodyUp fills the connection.
func TestAServerThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	s := serve(t, nil)
	var deaf sync.Map
	url := listen(t, func(c net.Conn) {
		up, err := net.Dial("tcp", s.addr())
		if err != nil {
			return
		}
		defer up.Close()
		go io.Copy(c, up)
		b := make([]byte, 4096)
		for {
			if _, is := deaf.Load("deaf"); is {
				<-t.Context().Done()
				return
			}
			n, err := c.Read(b)
			if err != nil {
				return
			}
			if _, err := up.Write(b[:n]); err != nil {
				return
			}
		}
	})
	c := s.config()
	c.Servers, c.Timeout = []string{url}, 5*time.Minute
	st := open(t, c, nil)
	write(t, st, records(t, 1, 2))
	deaf.Store("deaf", true)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	for n := range 8 { // 8 MiB at most are under way, so it takes some to fill the buffers
		if err := st.Write(ctx, append(records(t, 1, 1), record(t, 10+n, 1, 3<<20))); err != nil {
			mentions(t, err, "broken off")
		} else {
			t.Error("it was acknowledged")
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// TestAConnectionThatTheLibraryGivesUpIsMadeAnew lets a server say what makes it do so.
func TestAConnectionThatTheLibraryGivesUpIsMadeAnew(t *testing.T) {
	s := serve(t, nil)
	p := startProxy(t, s.addr())
	c := s.config()
	c.Servers = []string{p.url()}
	st := open(t, c, nil)
	write(t, st, records(t, 1, 5))
	p.mu.Lock()
	for conn := range p.conns {
		if conn.LocalAddr().String() == p.listener.Addr().String() {
			io.WriteString(conn, "-ERR 'Something New'\r\n")
		}
	}
	p.mu.Unlock()
	for deadline := time.Now().Add(20 * time.Second); !st.link.nc.IsClosed(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the library does not give up, so that nothing is tested")
		}
	}
	deliver(t, st, records(t, 6, 9))
	if n := len(s.got()); n != 9 {
		t.Errorf("%d messages, want 9", n)
	}
}

func TestOnlyServersThatAreNamedAreConnectedTo(t *testing.T) {
	met := make(chan string, 1)
	stranger := listen(t, func(net.Conn) {
		select {
		case met <- "stranger":
		default:
		}
	})
	s := serve(t, func(o *natsd.Options) {
		o.ClientAdvertise = strings.TrimPrefix(stranger, "nats://")
		o.Cluster.ListenStr, o.Cluster.Host, o.Cluster.Port = "127.0.0.1:-1", "127.0.0.1", -1
		o.JetStream = false
	})
	_, err := Open(t.Context(), s.config(), nil)
	if err == nil {
		t.Fatal("without JetStream it was opened")
	}
	select {
	case <-met:
		t.Error("a server that another one named was connected to")
	case <-time.After(100 * time.Millisecond):
	}
}

func TestWhatIsKnownIsFoundInNoText(t *testing.T) {
	var s secrets
	s.add(`pa"ss w/rd`)
	s.add("pa")
	for _, text := range []string{`pa"ss w/rd`, "pa%22ss+w%2Frd", `x pa\"ss w/rd y`, "cGEic3Mgdy9yZA==", "pa\"ss\x00w/rd"} {
		if got := s.clean(text); strings.Contains(got, "ss") && !strings.Contains(got, concealed) || strings.Contains(got, "cGEic3") {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got := new(secrets).clean("nothing is known"); got != "nothing is known" {
		t.Errorf("%q", got)
	}
	if got := s.clean("twice, and twice"); got != "twice, and twice" {
		t.Errorf("%q", got)
	}
}

// FuzzClean looks for a secret in what is shown, and for what no log should have.
func FuzzClean(f *testing.F) {
	f.Add("a secret-value b", "secret-value")
	f.Add("secret\x00-value", "secret-value")
	f.Add(strings.Repeat("secret-value", 500), "secret-value")
	f.Add("\xff\x1b[31m", "")
	f.Fuzz(func(t *testing.T, text, secret string) {
		var s secrets
		s.add(secret)
		got := s.clean(text)
		if len(got) > maxText+len("…") || bytes.ContainsAny([]byte(got), "\r\n\x00\x1b") {
			t.Errorf("%q", got)
		}
		if len(secret) >= 12 && !strings.Contains(concealed, secret) && !strings.ContainsAny(secret, "[]…") && strings.Contains(got, secret) {
			t.Errorf("%q shows %q", got, secret)
		}
	})
}
