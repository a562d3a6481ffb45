// Package natstest runs real NATS servers for tests and for bench, as processes of their
// own that can be killed: on free ports, in a directory of their own, one or a cluster.
package natstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-audit-log/caddy-audit-log/internal/ports"
	"github.com/caddy-audit-log/caddy-audit-log/internal/program"
)

// Program is what is built and run.
const Program = "github.com/nats-io/nats-server/v2@v2.15.3"

const (
	upTimeout   = 60 * time.Second
	stopTimeout = 30 * time.Second
	// pause is between two looks.
	pause = 50 * time.Millisecond
)

// Cluster are servers with JetStream, which know each other if there are several. Its
// methods are for one goroutine.
type Cluster struct {
	dir   string
	nodes []*node
}

type node struct {
	name    string
	address string
	config  string
	log     string
	said    string // the file with what it writes before it has a log
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has
}

// Start builds the program, which is done once and takes a minute, and starts n servers
// of it. Extra is what else stands in the jetstream block of their configuration, as in
// "sync_interval: always". It returns when JetStream answers; Close ends all of it.
func Start(ctx context.Context, n int, extra string) (*Cluster, error) {
	binary, err := program.Go(ctx, Program)
	if err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		// Somebody else may get a port between its choice and its use.
		c, err := start(ctx, binary, n, extra)
		if err == nil || tries == 3 {
			return c, err
		}
	}
}

func start(ctx context.Context, binary string, n int, extra string) (_ *Cluster, err error) {
	dir, err := os.MkdirTemp("", "natstest-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	clients, err := ports.Addresses(n)
	if err != nil {
		return nil, err
	}
	routes, err := ports.Addresses(n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		text := fmt.Sprintf("server_name: %s\nlisten: %q\nmax_payload: 8MB\njetstream {\n\tstore_dir: %q\n\tmax_file_store: 100GB\n\t%s\n}\n",
			name, clients[i], filepath.Join(dir, name), extra)
		if n > 1 {
			text += fmt.Sprintf("cluster {\n\tname: audit\n\tlisten: %q\n\troutes: [%q]\n}\n", routes[i], "nats://"+strings.Join(routes, `", "nats://`))
			text = strings.ReplaceAll(text, `\"`, `"`)
		}
		at := &node{name: name, address: clients[i], config: filepath.Join(dir, name+".conf"), log: filepath.Join(dir, name+".log"), said: filepath.Join(dir, name+".err")}
		if err := os.WriteFile(at.config, []byte(text), 0o600); err != nil {
			return nil, err
		}
		at.cmd = exec.Command(binary, "-c", at.config, "-l", at.log) //nolint:gosec,noctx // what was built here; it is ended by Close
		c.nodes = append(c.nodes, at)
	}
	for i := range n {
		if err := c.Up(i); err != nil {
			return nil, err
		}
	}
	return c, c.Ready(ctx)
}

// URLs are those of all servers.
func (c *Cluster) URLs() (urls []string) {
	for _, at := range c.nodes {
		urls = append(urls, "nats://"+at.address)
	}
	return urls
}

// Nodes is how many servers there are.
func (c *Cluster) Nodes() int { return len(c.nodes) }

// Up starts server i, if it does not run, and returns when it listens. Whether the
// cluster answers is another question: Ready.
func (c *Cluster) Up(i int) error {
	at := c.nodes[i]
	if at.ended != nil {
		return nil
	}
	said, err := os.Create(at.said)
	if err != nil {
		return err
	}
	defer said.Close()
	cmd := exec.Command(at.cmd.Path, at.cmd.Args[1:]...) //nolint:gosec,noctx // as above
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting NATS: %w", err)
	}
	ended := make(chan struct{})
	go wait(cmd, ended)
	at.cmd, at.ended = cmd, ended
	for deadline := time.Now().Add(upTimeout); ; {
		if conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", at.address); err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-ended:
			at.ended = nil
			return fmt.Errorf("starting NATS: it ended: see %s and %s", at.said, at.log)
		case <-time.After(pause):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("starting NATS: server %s does not listen on %s: see %s", at.name, at.address, at.log)
		}
	}
}

// wait is a goroutine for as long as a server runs.
func wait(cmd *exec.Cmd, ended chan struct{}) {
	defer close(ended)
	_ = cmd.Wait() // it is ended by a signal
}

// Waiter is the function of that goroutine, for those who look for what was left behind.
const Waiter = "github.com/caddy-audit-log/caddy-audit-log/internal/natstest.wait"

// Ready waits until JetStream answers, which in a cluster takes a leader.
func (c *Cluster) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	for {
		err := c.With(func(_ *nats.Conn, js jetstream.JetStream) error {
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			info, err := js.AccountInfo(short)
			if err == nil && info == nil {
				err = errors.New("no account")
			}
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for JetStream: %w", err)
		case <-time.After(pause):
		}
	}
}

// With calls f with a connection of its own, which has as many messages under way as the
// store nats.
func (c *Cluster) With(f func(nc *nats.Conn, js jetstream.JetStream) error) error {
	nc, err := nats.Connect(strings.Join(c.URLs(), ","), nats.MaxReconnects(-1), nats.Timeout(upTimeout))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(512))
	if err != nil {
		return err
	}
	return f(nc, js)
}

// look asks about a stream. One that has no leader just now does not answer.
func look(ctx context.Context, js jetstream.JetStream, stream string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// Leader is the server that leads a stream.
func (c *Cluster) Leader(ctx context.Context, stream string) (i int, err error) {
	err = c.With(func(_ *nats.Conn, js jetstream.JetStream) error {
		info, err := look(ctx, js, stream)
		if err != nil {
			return err
		}
		for n, at := range c.nodes {
			if info.Cluster != nil && info.Cluster.Leader == at.name {
				i = n
				return nil
			}
		}
		return errors.New("the stream has no leader")
	})
	return i, err
}

// Settled waits until each of the stream's replicas is up and keeps up.
func (c *Cluster) Settled(ctx context.Context, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	for {
		settled := false
		var said string
		err := c.With(func(_ *nats.Conn, js jetstream.JetStream) error {
			info, err := look(ctx, js, stream)
			if err != nil {
				return err
			}
			if info.Cluster == nil {
				return errors.New("the stream is on no cluster")
			}
			settled = info.Cluster.Leader != ""
			said = ""
			for _, r := range info.Cluster.Replicas {
				settled = settled && r.Current && !r.Offline
				said += fmt.Sprintf("%+v ", *r)
			}
			return nil
		})
		if err == nil && settled {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for all replicas of a stream: %s", said), err)
		case <-time.After(pause):
		}
	}
}

// Kill ends server i by SIGKILL.
func (c *Cluster) Kill(i int) error { return c.end(i, os.Kill) }

// Stop ends server i by an interrupt, so that it can close its files.
func (c *Cluster) Stop(i int) error { return c.end(i, os.Interrupt) }

func (c *Cluster) end(i int, by os.Signal) error {
	at := c.nodes[i]
	if at.ended == nil {
		return nil
	}
	if err := at.cmd.Process.Signal(by); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending NATS: %w", err)
	}
	select {
	case <-at.ended:
	case <-time.After(stopTimeout):
		return fmt.Errorf("ending NATS: server %s does not end: see %s", at.name, at.log)
	}
	at.ended = nil
	return nil
}

// Close kills what runs and removes what it wrote.
func (c *Cluster) Close() error {
	var err error
	for i := range c.nodes {
		err = errors.Join(err, c.Kill(i))
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
