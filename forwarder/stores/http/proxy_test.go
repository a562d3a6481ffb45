package httpstore

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient/clienttest"
	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
)

// connectProxy is a proxy that tunnels, for whoever knows its password.
type connectProxy struct {
	password string
	mu       sync.Mutex
	targets  []string
	open     sync.WaitGroup
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	proxied := &http.Request{Header: http.Header{"Authorization": req.Header["Proxy-Authorization"]}}
	if _, password, _ := proxied.BasicAuth(); p.password != password {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	p.mu.Lock()
	p.targets = append(p.targets, req.Method+" "+req.Host)
	p.mu.Unlock()
	if req.Method != http.MethodConnect {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	to, err := net.Dial("tcp", req.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		to.Close()
		return
	}
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	p.open.Go(func() {
		defer to.Close()
		go func() {
			io.Copy(conn, to)
			conn.Close()
		}()
		io.Copy(to, bufio.NewReader(buffered))
	})
}

func TestAProxyTunnelsToTheReceiver(t *testing.T) {
	a, r := certtest.NewAuthority(t), new(receiver)
	url := clienttest.ServeTLS(t, r, a, nil, nil)
	ca := certtest.Save(t, filepath.Join(t.TempDir(), "ca.pem"), a.PEM())
	proxy := &connectProxy{password: "planted-password"}
	address := serve(t, proxy)
	p := placeholders{"{env.U}": "who", "{env.P}": "planted-password"}
	c := Config{
		URL: url, TLS: httpclient.TLS{CA: ca}, Resolve: p.resolve,
		Proxy: strings.Replace(address, "://", "://{env.U}:{env.P}@", 1),
	}
	s := open(t, c)
	write(t, s, records(t, 1, 3))
	got := r.last(t)
	if want := "CONNECT " + strings.TrimPrefix(url, "https://"); len(proxy.targets) != 1 || proxy.targets[0] != want {
		t.Errorf("the proxy was asked for %q, want %q", proxy.targets, want)
	}
	if got.ProtoMajor != 2 || got.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("%s, headers %v", got.Proto, got.Header)
	}
	s.Close()
	proxy.open.Wait()

	p["{env.P}"] = "planted-but-wrong"
	err := fails(t, open(t, c))
	if strings.Contains(err.Error(), "planted") || clienttest.IsRefused(err) {
		t.Errorf("got %v", err)
	}
	clienttest.Mentions(t, err, "Proxy Authentication Required")

	c.Proxy = "http://127.0.0.2:1"
	clienttest.Mentions(t, fails(t, open(t, c)), "127.0.0.2:1", "connect")
}

func TestTheEnvironmentsProxyIsUsedUnlessToldOtherwise(t *testing.T) {
	proxy := &connectProxy{password: "planted"}
	address := serve(t, proxy)
	t.Setenv("NO_PROXY", "")
	t.Setenv("HTTP_PROXY", strings.Replace(address, "://", "://u:planted@", 1))
	// A name that does not exist, so that only the proxy can answer for it.
	c := Config{URL: "http://siem.invalid/in", Insecure: true}
	s, err := Open(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write(t, s, records(t, 1, 1))
	if len(proxy.targets) != 1 || proxy.targets[0] != "POST siem.invalid" {
		t.Errorf("the proxy was asked for %q", proxy.targets)
	}
	clienttest.Mentions(t, fails(t, open(t, c)), "siem.invalid") // open says none
}
