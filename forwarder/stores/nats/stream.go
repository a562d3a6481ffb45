package natsstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// minMessage is the largest message that a stream and a server should take at least, in
// bytes: an entry of 1 MiB is nothing special.
const minMessage = 1 << 20

// stream is one that was looked at.
type stream struct {
	name   string
	domain string
	// answers is whether it has acknowledged something, and since the last failure. One
	// that is new or coming back may lose a message before it has agreed on its leader.
	answers bool
}

// prepare looks at the stream of a class, once, and creates it if it is missing and may
// be. One that is gone later is not made anew before the store is opened again: it had
// entries, and somebody has to know.
func (s *Store) prepare(ctx context.Context, class string) error {
	if s.streams[class] != nil {
		return nil
	}
	want := s.c.wanted(class)
	name := want.Name
	info, err := s.find(ctx, want)
	if err != nil {
		return fmt.Errorf("looking at stream %q: %w", name, err)
	}
	if err := unfit(info.Config, want); err != nil {
		return fmt.Errorf("stream %q cannot keep audit entries: %w", name, err)
	}
	if weak := weaknesses(info.Config, want); len(weak) > 0 {
		s.log.Warn("a stream is weaker than asked for", "location", s.description.Location, "stream", name, "reasons", strings.Join(weak, "; "))
	}
	of := &stream{name: name, domain: info.Domain}
	if s.c.Domain != "" {
		of.domain = s.c.Domain
	}
	s.streams[class] = of
	return nil
}

// find looks at a stream until there is one or it is clear that there will be none. A
// cluster takes its time to agree on a stream, also on one that another sidecar is
// creating, perhaps with other options: until then it says that there is none, and that
// there is one already, and nothing at all. Whoever comes second takes what there is.
func (s *Store) find(ctx context.Context, want jetstream.StreamConfig) (info *jetstream.StreamInfo, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.c.Timeout, errNoAnswer)
	defer cancel()
	for {
		info, err = s.look(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			if s.c.NoCreate {
				return nil, &missingError{want}
			}
			info, err = s.create(ctx, want)
		}
		if err == nil && info.Cluster != nil && info.Cluster.Leader == "" {
			err = errNoLeader // what is published now gets no answer
		}
		if err == nil || !isPassing(err) {
			return info, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(lookAgain):
		}
	}
}

const (
	// lookTimeout is how long one look may take: a stream without a leader says nothing.
	lookTimeout = 2 * time.Second
	// lookAgain is the pause between two.
	lookAgain = 100 * time.Millisecond
)

func (s *Store) look(ctx context.Context, want jetstream.StreamConfig) (info *jetstream.StreamInfo, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errNoAnswer)
	defer cancel()
	err = s.link.request(ctx, func(ctx context.Context) error {
		of, err := s.link.js.Stream(ctx, want.Name)
		if err == nil {
			info = of.CachedInfo()
		}
		return err
	})
	return info, err
}

func (s *Store) create(ctx context.Context, want jetstream.StreamConfig) (info *jetstream.StreamInfo, err error) {
	err = s.link.request(ctx, func(ctx context.Context) error {
		of, err := s.link.js.CreateStream(ctx, want)
		if err == nil {
			info = of.CachedInfo()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("creating it: %w", err)
	}
	s.log.Info("created a stream for audit entries", "location", s.description.Location, "stream", want.Name, "replicas", want.Replicas)
	return info, nil
}

// isPassing reports whether a cluster says what it says of a stream only while it agrees
// on it.
func isPassing(err error) bool {
	if said, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch said.ErrorCode {
		case 10004, 10007, 10008, 10009, 10058, 10118:
			return true
		}
	}
	return errors.Is(err, errNoAnswer) || errors.Is(err, errNoLeader)
}

// wanted is the stream of a class as it is created. When a limit is reached it takes
// nothing more, so that entries wait with us: what was acknowledged is dropped for its
// age only, and only if the configuration has one.
func (c *Config) wanted(class string) jetstream.StreamConfig {
	want := jetstream.StreamConfig{
		Name:              c.streamName(class),
		Description:       "Audit entries, kept by class; written by caddy-audit-log.",
		Subjects:          []string{c.classSubject(class)},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		Replicas:          c.Replicas,
		Discard:           jetstream.DiscardNew,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxMsgsPerSubject: -1,
		MaxBytes:          -1,
		MaxMsgSize:        -1,
		MaxAge:            c.maxAge(class),
		Duplicates:        c.window(class),
		Compression:       jetstream.S2Compression,
		DenyDelete:        c.DenyDelete,
		DenyPurge:         c.DenyPurge,
	}
	if c.MaxBytes > 0 {
		want.MaxBytes = c.MaxBytes
	}
	return want
}

// unfit says why a stream that exists must not get entries: it would lose some that it
// has acknowledged, or acknowledge none. What is no subject of ours cannot be told from
// a stream that somebody else has made for something else.
func unfit(have, want jetstream.StreamConfig) error {
	edit := "nats stream edit " + have.Name
	switch {
	case !covers(have.Subjects, want.Subjects[0]):
		return fmt.Errorf("its subjects are %q and not %q: add that, or give the store another stream or subject", have.Subjects, want.Subjects[0])
	case have.Mirror != nil || have.Sealed:
		return errors.New("it is a mirror or sealed, and takes nothing: give the store another stream")
	case have.SubjectTransform != nil:
		return errors.New("it changes subjects, so that nobody can tell what it has of whom: take its subject_transform out")
	case have.NoAck:
		return fmt.Errorf("it acknowledges nothing (no_ack): %s --ack", edit)
	case have.Storage != jetstream.FileStorage:
		return fmt.Errorf("it lies in memory: move it to a new one with --storage file")
	case have.Retention != jetstream.LimitsPolicy:
		return errors.New("its retention is not limits, so that it gives up what somebody has read: move it to a new one with --retention limits")
	case have.PersistMode == jetstream.AsyncPersistMode:
		return errors.New("it acknowledges before it writes (persist_mode async): move it to a new one without that")
	case have.MaxMsgsPerSubject > 0 && !(have.DiscardNewPerSubject && have.Discard == jetstream.DiscardNew):
		return fmt.Errorf("it keeps %d messages of a subject and drops older ones: %s --max-msgs-per-subject -1", have.MaxMsgsPerSubject, edit)
	case have.Discard != jetstream.DiscardNew && (have.MaxMsgs > 0 || have.MaxBytes > 0):
		return fmt.Errorf("when it is full it drops old entries: %s --discard new", edit)
	}
	return nil
}

// weaknesses are what a stream that exists has less than was asked for.
func weaknesses(have, want jetstream.StreamConfig) (all []string) {
	edit := "nats stream edit " + have.Name
	if have.Replicas < want.Replicas {
		all = append(all, fmt.Sprintf("it has %d of %d replicas: %s --replicas %d, or give the store replicas %d", have.Replicas, want.Replicas, edit, want.Replicas, have.Replicas))
	}
	if have.MaxMsgSize > 0 && have.MaxMsgSize < minMessage {
		all = append(all, fmt.Sprintf("it takes no message above %d bytes, and an entry above that goes into quarantine: %s --max-msg-size -1", have.MaxMsgSize, edit))
	}
	if have.Duplicates < want.Duplicates {
		all = append(all, fmt.Sprintf("it keeps repeats out for %s and not for %s: %s --dupe-window %s, or give the store that duplicate_window", have.Duplicates, want.Duplicates, edit, short(want.Duplicates)))
	}
	if have.MaxAge > 0 && (want.MaxAge == 0 || have.MaxAge < want.MaxAge) {
		all = append(all, fmt.Sprintf("it drops entries after %s: %s --max-age, or give the store that max_age", have.MaxAge, edit))
	}
	if have.AllowRollup {
		all = append(all, "whoever may publish to it can purge it by a header (allow_rollup_hdrs): "+edit+" --no-allow-rollup")
	}
	for deny, missing := range map[string]bool{"deny-delete": want.DenyDelete && !have.DenyDelete, "deny-purge": want.DenyPurge && !have.DenyPurge} {
		if missing {
			all = append(all, fmt.Sprintf("it does not %s: %s --%s", strings.ReplaceAll(deny, "-", " "), edit, deny))
		}
	}
	slices.Sort(all)
	return all
}

// covers reports whether one of the subjects takes all that want does.
func covers(subjects []string, want string) bool {
	return slices.ContainsFunc(subjects, func(s string) bool { return contains(strings.Split(s, "."), strings.Split(want, ".")) })
}

func contains(subject, want []string) bool {
	for i, token := range subject {
		if token == ">" {
			return len(want) > i
		}
		if i >= len(want) || token != "*" && token != want[i] {
			return false
		}
	}
	return len(subject) == len(want)
}

// command creates a stream by NATS's own program.
func command(want jetstream.StreamConfig) string {
	c := fmt.Sprintf("nats stream add %s --subjects '%s' --storage file --retention limits --discard new --replicas %d --dupe-window %s --compression s2",
		want.Name, want.Subjects[0], want.Replicas, short(want.Duplicates))
	if want.MaxAge > 0 {
		c += " --max-age " + short(want.MaxAge)
	}
	if want.MaxBytes > 0 {
		c += fmt.Sprintf(" --max-bytes %d", want.MaxBytes)
	}
	if want.DenyDelete {
		c += " --deny-delete"
	}
	if want.DenyPurge {
		c += " --deny-purge"
	}
	return c + " --defaults"
}

// short writes a duration without parts that are zero.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
