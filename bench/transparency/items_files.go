package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	bigFile = 16 << 20
	bigName = "big.bin"
)

// makeFiles makes what Caddy's file server serves for both.
func makeFiles(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		return fmt.Errorf("making the files to serve: %w", err)
	}
	// Not now: a file that was just changed gets no validator from some.
	then := time.Now().Add(-time.Hour)
	for name, size := range map[string]int{"small.txt": 1000, bigName: bigFile, "sub/index.html": 200} {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			return fmt.Errorf("making the files to serve: %w", err)
		}
		if err := pour(f, int64(size)); err != nil {
			return fmt.Errorf("filling %s: %w", path, err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("filling %s: %w", path, err)
		}
		if err := os.Chtimes(path, then, then); err != nil {
			return fmt.Errorf("dating %s: %w", path, err)
		}
	}
	return nil
}

func files() []*item {
	file := func(c *call, method, name string, fields ...string) {
		r := c.req(method, fields...)
		r.path = "/files/" + name
		c.get(r)
	}
	return []*item{
		{
			name: "files", protos: always, want: "200, 200, 206, 206, 416, 304, 404, 200, 405", run: func(c *call) {
				file(c, "GET", "small.txt")
				file(c, "HEAD", bigName)
				file(c, "GET", "small.txt", "Range: bytes=10-19")
				file(c, "GET", bigName, "Range: bytes=-5")
				file(c, "GET", "small.txt", "Range: bytes=5000-")
				file(c, "GET", "small.txt", "If-Modified-Since: "+time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))
				file(c, "GET", "absent.txt")
				file(c, "GET", "sub/")
				file(c, "POST", "small.txt")
			},
		},
		{name: "large file", protos: always, want: "200, whole", run: func(c *call) {
			r := c.req("GET")
			r.path = "/files/" + bigName
			s := c.send(r)
			e := s.next()
			c.sum("%d", e.status)
			c.must(drain(&reader{stream: s}, bigFile))
			c.sum("whole")
		}},
		{name: copiedByKernel, protos: []string{h1}, want: "copied by the kernel", run: kernelCopy},
		{name: "file copied by Caddy, to compare", protos: []string{h1s}, want: "copied by Caddy", run: kernelCopy},
	}
}

const copiedByKernel = "file copied by the kernel"

// kernelCopy finds out who copies a file by how often the server reads: by
// itself it needs a read for each 32 KiB or less, while sendfile, which counts
// as a read as well, moves what the socket takes, up to 4 MiB. Over TLS the
// kernel cannot do it, which shows that this measure can tell.
func kernelCopy(c *call) {
	addr := c.files
	if c.proto == h1s {
		addr = c.tls
	}
	t := c.target
	t.plain, t.tls = addr, addr
	r := c.req("GET")
	r.path = "/files/" + bigName
	before, err := reads(c.pid)
	if err != nil {
		c.note("! %v", err)
		c.sum("cannot be measured")
		return
	}
	s, err := t.openOne(c.proto, r)
	c.must(err)
	c.opens = append(c.opens, s)
	if e := s.next(); e.status != 200 {
		c.sum("%d", e.status)
		return
	}
	c.must(drain(&reader{stream: s}, bigFile))
	after, err := reads(c.pid)
	c.must(err)
	if after-before < bigFile/(32<<10)/2 {
		c.sum("copied by the kernel")
		return
	}
	c.sum("copied by Caddy")
}
