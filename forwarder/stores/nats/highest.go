package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// maxClasses bounds how many streams are looked into for an instance.
const maxClasses = 256

// Highest implements forwarder.Witness. It reads the last message of the instance in
// each class's stream, whose header says how far its writer had got. What a stream has
// given up since, by max_age, it does not know any more.
func (s *Store) Highest(ctx context.Context, instance string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := s.during(ctx)
	defer cancel()
	n, err := s.ask(ctx, instance)
	if err != nil {
		return 0, s.asking(ctx, instance, err)
	}
	n = max(n, s.highest[instance])
	s.highest[instance] = n
	return n, nil
}

// ask asks the streams.
func (s *Store) ask(ctx context.Context, instance string) (highest uint64, err error) {
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	names, err := s.streamsOf(ctx, instance)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		token := strings.TrimPrefix(name, s.c.Stream+"_")
		subject := s.c.Subject + "." + token + "." + escape(instance)
		var last *jetstream.RawStreamMsg
		err := s.link.request(ctx, func(ctx context.Context) error {
			of, err := s.link.js.Stream(ctx, name)
			if err == nil {
				last, err = of.GetLastMsgForSubject(ctx, subject)
			}
			return err
		})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("reading the last message of %s: %w", subject, err)
		}
		highest = max(highest, parseHighest(last.Header.Get(headerHighest), last.Header.Get(headerSequence)))
	}
	return highest, nil
}

// streamsOf names the streams that take the instance's entries.
func (s *Store) streamsOf(ctx context.Context, instance string) (names []string, err error) {
	err = s.link.request(ctx, func(ctx context.Context) error {
		list := s.link.js.StreamNames(ctx, jetstream.WithStreamListSubject(s.c.Subject+".*."+escape(instance)))
		for name := range list.Name() {
			if strings.HasPrefix(name, s.c.Stream+"_") && len(names) < maxClasses {
				names = append(names, name)
			}
		}
		return list.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("listing streams: %w", err)
	}
	return names, nil
}

// parseHighest reads the headers of a message, which anybody may have published who
// may publish at all. What is no number is none.
func parseHighest(highest, sequence string) uint64 {
	h, errH := strconv.ParseUint(highest, 10, 63)
	n, errN := strconv.ParseUint(sequence, 10, 63)
	if errH != nil {
		h = 0
	}
	if errN != nil {
		n = 0
	}
	return max(h, n)
}
