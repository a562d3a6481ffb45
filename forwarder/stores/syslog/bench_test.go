package syslogstore

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/certtest"
)

// BenchmarkWrite writes batches as they are on a backlog to somebody who reads them over
// TLS and does nothing with them.
func BenchmarkWrite(b *testing.B) {
	a := certtest.NewAuthority(b)
	l, err := tls.Listen("tcp", "127.0.0.1:0", serverConfig(b, a, nil, nil))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) {
				defer c.Close()
				io.Copy(io.Discard, c)
			}(c)
		}
	}()
	s := open(b, Config{URL: "tls://" + l.Addr().String(), TLS: TLS{CA: certtest.Save(b, filepath.Join(b.TempDir(), "ca.pem"), a.PEM())}})
	batch := records(b, 1, 5000)
	size := 0
	for _, r := range batch {
		size += len(r.JSON)
	}
	write(b, s, batch)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		write(b, s, batch)
	}
	b.ReportMetric(float64(len(batch))*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkMessage makes one message.
func BenchmarkMessage(b *testing.B) {
	f := Config{}.withDefaults().format()
	r := record(b, 1, 200)
	var message []byte
	b.ReportAllocs()
	for b.Loop() {
		message = f.append(message[:0], &r)
	}
}
