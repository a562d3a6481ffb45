//go:build servers

package s3

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/spool"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/storetest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/s3test"
)

const testBucket = "audit"

// spooled is the module as export reads it.
type spooled struct {
	*Module
	dir string
}

// OpenReader implements forwarder.ReaderOpener.
func (o spooled) OpenReader(context.Context) (forwarder.ReadCloser, error) {
	return spool.New(o.Module, o.dir), nil
}

func TestTheStoreKeepsItsContract(t *testing.T) {
	const content = "a bucket takes all bytes: the only refusal is that of an object beyond 5 GiB"
	o := storetest.Options{
		Repeats: storetest.RepeatsMayShow,
		NotApplicable: map[string]string{
			"a refused entry is told from its neighbours":                 content,
			"a destination that refuses everything says so of each entry": content,
			"a pruned entry does not come back":                           "objects are immutable: they expire as a whole, by a lifecycle rule",
			"a redacted text does not come back":                          "objects are immutable",
			"Received and Missing are what arrived":                       "the names of the objects say what arrived; this version does not read them for that",
			"Highest is the highest sequence that was taken":              "whoever may write to the bucket could make a name up and so have the buffer start anew",
		},
	}
	storetest.Run(t, contractTarget, o)
}

func contractTarget(t testing.TB) *storetest.Target {
	server := s3test.Run(t, "", "")
	p := newProxy(t, server.Addr)
	t.Setenv("S3_CONTRACT_ACCESS", s3test.AccessKey)
	t.Setenv("S3_CONTRACT_SECRET", s3test.SecretKey)
	m := &Module{
		URL: "http://" + p.addr + "/" + testBucket + "/a/prefix", AccessKey: "{env.S3_CONTRACT_ACCESS}", SecretKey: "{env.S3_CONTRACT_SECRET}",
		Create: true, Lock: LockCompliance, LockTerm: testTerm, Addressing: AddressingPath,
	}
	provision(t, m)
	return &storetest.Target{
		Opener:      spooled{m, t.TempDir()},
		Credentials: []string{s3test.AccessKey, s3test.SecretKey},
		Documents: func() (docs [][]byte, err error) {
			all, err := server.Objects(testBucket, "a/prefix/entries/")
			// A disk's clock is too coarse for the order of two.
			p.set(func() {
				slices.SortStableFunc(all, func(a, b s3test.Object) int { return cmp.Compare(p.order[a.Key], p.order[b.Key]) })
			})
			for _, o := range all {
				b, err := o.Plain()
				if err != nil {
					return nil, err
				}
				for doc := range bytes.Lines(b) {
					docs = append(docs, bytes.TrimSuffix(doc, []byte("\n")))
				}
			}
			return docs, err
		},
		Break: func() func() {
			if err := server.Down(); err != nil {
				t.Error(err)
			}
			return func() {
				if err := server.Up(); err != nil {
					t.Error(err)
				}
			}
		},
		Slow: func(d time.Duration) func() {
			fast := make(chan struct{})
			p.set(func() { p.slow, p.fast = d, fast })
			return sync.OnceFunc(func() {
				p.set(func() { p.slow = 0 })
				close(fast)
			})
		},
		Cut: func() {
			p.set(func() {
				p.cuts++
				p.cut = 1 + p.cuts%2
			})
		},
	}
}

// proxy stands before the server and delays or resets connections that upload.
type proxy struct {
	addr string
	wg   sync.WaitGroup

	mu   sync.Mutex
	slow time.Duration
	fast chan struct{}
	cut  int // 1: before the server has it, 2: before its answer is out
	cuts int
	open map[net.Conn]bool
	// order has the number of each object's first upload.
	order map[string]int
}

func newProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), open: map[net.Conn]bool{}, order: map[string]int{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c, to) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.set(func() {
			for c := range p.open {
				c.Close()
			}
		})
		p.wg.Wait()
	})
	return p
}

func (p *proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// serve passes one connection on. The gateway keeps none, so each is one request.
func (p *proxy) serve(c net.Conn, to string) {
	defer c.Close()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	p.set(func() { p.open[c], p.open[up] = true, true })
	defer p.set(func() {
		delete(p.open, c)
		delete(p.open, up)
	})
	head := make([]byte, 4<<10)
	n, err := c.Read(head)
	if err != nil {
		return
	}
	cut, slow, fast := 0, time.Duration(0), (chan struct{})(nil)
	if strings.HasPrefix(string(head[:n]), "PUT ") && bytes.Contains(head[:n], []byte("/entries/")) {
		path, _, _ := strings.Cut(strings.TrimPrefix(string(head[4:n]), "/"+testBucket+"/"), " ")
		p.set(func() {
			if p.order[path] == 0 {
				p.order[path] = len(p.order) + 1
			}
			cut, slow, fast = p.cut, p.slow, p.fast
			p.cut, p.slow = 0, 0
		})
	}
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-fast:
		}
	}
	if cut == 1 {
		up.Write(head[:n/2])
		c.(*net.TCPConn).SetLinger(0)
		return
	}
	if _, err := up.Write(head[:n]); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, c)
		up.(*net.TCPConn).CloseWrite()
	}()
	if cut == 2 {
		up.Read(make([]byte, 1)) // it has answered
		c.(*net.TCPConn).SetLinger(0)
	} else {
		io.Copy(c, up)
	}
	c.Close()
	up.Close()
	<-done
}
