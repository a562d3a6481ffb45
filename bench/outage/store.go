package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// store is the other side of a store of the build: what this program runs,
// takes away, gives back, and looks into.
type store interface {
	// name is what the build knows it by, and kind its kind.
	name() string
	kind() string
	// once says that the kind promises to have each (id, revision) once.
	once() bool
	// block is the store in a Caddyfile.
	block() string
	// down takes it away as an outage does, and up gives it back.
	down(ctx context.Context) error
	up(ctx context.Context) error
	// arrivals are what it has, in the order in which it came where it knows.
	arrivals(ctx context.Context) ([]rig.Entry, error)
	// close ends what runs for it. It may be called when it is down.
	close() error
}

// makers start what is behind a store of each kind but the shipped one, which keeps what
// it has in a directory. env is what the build's environment needs for it.
var makers = map[string]func(dir string) (made store, env []string, err error){
	fileKind: func(dir string) (store, []string, error) {
		return &fileStore{dir: filepath.Join(dir, "shipped")}, nil, nil
	},
	httpKind: func(dir string) (store, []string, error) {
		r, err := newReceiver(filepath.Join(dir, "received.ndjson"), httpKind, "")
		return r, nil, err
	},
	natsKind: func(string) (store, []string, error) {
		n, err := newNATS()
		if err != nil {
			return nil, nil, err
		}
		return n, nil, nil
	},
	otlpKind: func(dir string) (store, []string, error) {
		o, err := newOTLP(filepath.Join(dir, "otlp"))
		return o, nil, err
	},
	postgresKind: func(string) (store, []string, error) {
		p, err := newPostgres()
		if err != nil {
			return nil, nil, err
		}
		return p, []string{p.env + "=" + p.dsn("")}, nil
	},
	syslogKind: func(dir string) (store, []string, error) {
		r, err := newSyslog(filepath.Join(dir, "rsyslog"))
		if r == nil {
			return nil, nil, err
		}
		return r, nil, err
	},
	s3Kind: func(string) (store, []string, error) { return newS3() },
}

// ranger is a store that keeps the ranges of sequences that it ever took.
type ranger interface {
	// ranges are those of each instance, in ascending order.
	ranges(ctx context.Context) (map[string][][2]uint64, error)
}

// The lines of the shipped Caddyfile that a trial changes.
var (
	storeLine   = regexp.MustCompile(`(?m)^[ \t]*store sqlite .*$`)
	maxSizeLine = regexp.MustCompile(`(?m)^(\s*)max_size .*$`)
	maxWaitLine = regexp.MustCompile(`(?m)^(\s*)max_wait .*$`)
	// viewerBlock needs a store that can be read back, which some trials do not have.
	viewerBlock = regexp.MustCompile(`(?ms)^(\s*)audit_log_viewer \{\n.*?^\t\}\n`)
)

// caddyfile puts stores in the place of the shipped Caddyfile's, and sets max_wait, and
// max_size if there is one to set.
func caddyfile(text string, stores []store, maxSize string) (string, error) {
	for what, line := range map[string]*regexp.Regexp{"store sqlite": storeLine, "max_size": maxSizeLine, "max_wait": maxWaitLine} {
		if len(line.FindAllString(text, 2)) != 1 {
			return "", fmt.Errorf("exchanging the stores: the Caddyfile does not have exactly one line %q; use one that is like the shipped one", what)
		}
	}
	text = viewerBlock.ReplaceAllString(text, "")
	text = maxWaitLine.ReplaceAllString(text, "${1}max_wait "+maxWait.String())
	if maxSize != "" {
		text = maxSizeLine.ReplaceAllString(text, "${1}max_size "+maxSize+"\n${1}segment_size 1MiB")
	}
	where := storeLine.FindStringIndex(text)
	shipped := strings.TrimSpace(text[where[0]:where[1]])
	var blocks []string
	for _, s := range stores {
		b := s.block()
		if b == "" {
			b = shipped
		}
		blocks = append(blocks, "\t\t"+strings.ReplaceAll(b, "\n", "\n\t\t"))
	}
	return text[:where[0]] + strings.Join(blocks, "\n") + text[where[1]:], nil
}

// decode reads documents, each of which is given without its newline.
func decode(next func(yield func([]byte) error) error) ([]rig.Entry, error) {
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(next(func(doc []byte) error {
			_, err := w.Write(append(bytes.TrimSuffix(doc, []byte("\n")), '\n'))
			return err
		}))
	}()
	entries, err := rig.Decode(r)
	_ = r.Close()
	return entries, err
}
