package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
	"github.com/caddy-audit-log/caddy-audit-log/internal/natstest"
)

const (
	natsNodes = 3
	// natsStreams is what the names of the store's streams begin with, and natsStream is the
	// one that most entries are in.
	natsStreams = "AUDIT_"
	natsStream  = natsStreams + "default"
	// natsQuiet is how long a stream may say nothing while it is read.
	natsQuiet = 30 * time.Second
)

// natsStore is a cluster of three servers as they are installed, each a process of its
// own. Its outage is that two of them are stopped, so that there is no quorum.
type natsStore struct {
	cluster *natstest.Cluster
	streams int // that there were when they were read last
}

func newNATS() (*natsStore, error) {
	cluster, err := natstest.Start(context.Background(), natsNodes, "")
	if err != nil {
		return nil, err
	}
	return &natsStore{cluster: cluster}, nil
}

func (*natsStore) name() string { return natsKind }
func (*natsStore) kind() string { return natsKind }
func (*natsStore) once() bool   { return false }

// block has a timeout, so that a cluster that answers nothing is noticed within a short
// trial.
func (s *natsStore) block() string {
	return "store nats " + strings.Join(s.cluster.URLs(), " ") + " {\n\ttimeout 5s\n}"
}

func (s *natsStore) down(context.Context) error {
	return errors.Join(s.cluster.Stop(0), s.cluster.Stop(1))
}

// up returns when JetStream answers again.
func (s *natsStore) up(ctx context.Context) error {
	for i := range s.cluster.Nodes() {
		if err := s.cluster.Up(i); err != nil {
			return err
		}
	}
	return s.cluster.Ready(ctx)
}

func (s *natsStore) close() error { return s.cluster.Close() }

func (s *natsStore) arrivals(ctx context.Context) (entries []rig.Entry, err error) {
	entries, err = decode(func(yield func([]byte) error) error {
		return s.each(ctx, func(m jetstream.Msg) error { return yield(m.Data()) })
	})
	if err != nil {
		return nil, fmt.Errorf("reading what NATS has: %w", err)
	}
	return entries, nil
}

// each reads the streams, of which each retention class has its own.
func (s *natsStore) each(ctx context.Context, visit func(jetstream.Msg) error) error {
	return s.cluster.With(func(_ *nats.Conn, js jetstream.JetStream) error {
		var names []string
		list := js.StreamNames(ctx)
		for name := range list.Name() {
			if strings.HasPrefix(name, natsStreams) {
				names = append(names, name)
			}
		}
		if err := list.Err(); err != nil {
			return err
		}
		s.streams = len(names)
		for _, name := range names {
			if err := eachOf(ctx, js, name, visit); err != nil {
				return fmt.Errorf("stream %s: %w", name, err)
			}
		}
		return nil
	})
}

func eachOf(ctx context.Context, js jetstream.JetStream, name string, visit func(jetstream.Msg) error) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for left := stream.CachedInfo().State.Msgs; left > 0; left-- {
		m, err := messages.Next(jetstream.NextMaxWait(natsQuiet))
		if err != nil {
			return err
		}
		if err := visit(m); err != nil {
			return err
		}
	}
	return nil
}

// rewrite publishes the same messages, headers and all, into a stream that is made like
// the store's, with as many of them under way.
func (s *natsStore) rewrite(ctx context.Context, size int) (n int, took time.Duration, err error) {
	const bare = "BARE"
	var all []*nats.Msg
	if err := s.each(ctx, func(m jetstream.Msg) error {
		h := nats.Header{}
		maps.Copy(h, m.Headers())
		h["Nats-Expected-Stream"] = []string{bare}
		all = append(all, &nats.Msg{Subject: "bare." + m.Subject(), Header: h, Data: append([]byte(nil), m.Data()...)})
		return nil
	}); err != nil {
		return 0, 0, err
	}
	err = s.cluster.With(func(_ *nats.Conn, js jetstream.JetStream) error {
		like, err := js.Stream(ctx, natsStream)
		if err != nil {
			return err
		}
		config := like.CachedInfo().Config
		config.Name, config.Subjects, config.Metadata = bare, []string{"bare.>"}, nil
		if _, err := js.CreateStream(ctx, config); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, js.DeleteStream(ctx, bare)) }()
		began := time.Now()
		for i := 0; i < len(all); i += size {
			if err := publishAll(js, all[i:min(i+size, len(all))]); err != nil {
				return err
			}
		}
		took = time.Since(began)
		return nil
	})
	return len(all), took, err
}

func publishAll(js jetstream.JetStream, all []*nats.Msg) error {
	acks := make([]jetstream.PubAckFuture, len(all))
	for i, m := range all {
		var err error
		if acks[i], err = js.PublishMsgAsync(m, jetstream.WithStallWait(natsQuiet)); err != nil {
			return err
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-time.After(natsQuiet):
			return errors.New("an acknowledgement does not come")
		}
	}
	return nil
}
