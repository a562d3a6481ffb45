package natsstore

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func TestAStreamIsMadeSoThatItDropsNothing(t *testing.T) {
	s := serve(t, nil)
	c := s.config()
	c.DenyDelete, c.DenyPurge, c.MaxBytes = true, true, 1<<30
	c.MaxAge = map[string]time.Duration{"short": time.Hour}
	var log textLog
	st := open(t, c, log.logger())
	write(t, st, []forwarder.Record{
		record(t, 1, 1, 10),
		recordOf(t, 2, 1, 10, func(e *audit.Entry) { e.Retention = &audit.Retention{Class: "short"} }),
	})
	_, js := s.client()
	for name, age := range map[string]time.Duration{"AUDIT_default": 0, "AUDIT_short": time.Hour} {
		of, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got := of.CachedInfo().Config
		if got.Storage != jetstream.FileStorage || got.Retention != jetstream.LimitsPolicy || got.Discard != jetstream.DiscardNew || got.MaxAge != age ||
			got.MaxMsgs != -1 || got.MaxMsgsPerSubject != -1 || got.MaxBytes != 1<<30 || got.NoAck || got.AllowRollup || got.AllowDirect ||
			!got.DenyDelete || !got.DenyPurge || got.Compression != jetstream.S2Compression || got.Replicas != 1 {
			t.Errorf("%s: %+v", name, got)
		}
		if want := st.c.window(strings.TrimPrefix(name, "AUDIT_")); got.Duplicates != want {
			t.Errorf("%s keeps repeats out for %s, want %s", name, got.Duplicates, want)
		}
		if n := of.CachedInfo().State.Msgs; n != 1 {
			t.Errorf("%s has %d messages", name, n)
		}
	}
	if n := strings.Count(log.String(), "created a stream"); n != 2 {
		t.Errorf("%d lines tell of streams: %s", n, log.String())
	}
}

// TestAStreamThatExistsIsCheckedAndNotChanged is the table of what may be wrong with it.
func TestAStreamThatExistsIsCheckedAndNotChanged(t *testing.T) {
	s := serve(t, nil)
	nc, js := s.client()
	good := (&Config{}).withDefaultsForTest().wanted(defaultClass)
	for what, test := range map[string]struct {
		change func(*jetstream.StreamConfig)
		err    string // of Open
		warns  string // in the log, if there is no error
	}{
		"good":      {func(*jetstream.StreamConfig) {}, "", ""},
		"better":    {func(c *jetstream.StreamConfig) { c.Duplicates, c.DenyPurge = 24*time.Hour, true }, "", ""},
		"wider":     {func(c *jetstream.StreamConfig) { c.Subjects = []string{"x", "audit.>"} }, "", ""},
		"memory":    {func(c *jetstream.StreamConfig) { c.Storage, c.Compression = jetstream.MemoryStorage, 0 }, "--storage file", ""},
		"no ack":    {func(c *jetstream.StreamConfig) { c.NoAck = true }, "--ack", ""},
		"old":       {func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardOld, 1000 }, "--discard new", ""},
		"old bytes": {func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardOld, 1<<20 }, "--discard new", ""},
		"few":       {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }, "--max-msgs-per-subject -1", ""},
		"work":      {func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, "--retention limits", ""},
		"interest":  {func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, "--retention limits", ""},
		"async":     {func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }, "persist_mode", ""},
		"others":    {func(c *jetstream.StreamConfig) { c.Subjects = []string{"other.*"} }, "its subjects are", ""},
		"transform": {func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "audit.default.*", Destination: "x.$1"}
		}, "subject_transform", ""},
		"unlimited old": {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "", ""},
		"small":         {func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }, "", "--max-msg-size -1"},
		"forgetful":     {func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }, "", "--dupe-window 2h"},
		"short":         {func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour }, "", "drops entries after 24h0m0s"},
		"rollup":        {func(c *jetstream.StreamConfig) { c.AllowRollup = true }, "", "--no-allow-rollup"},
	} {
		t.Run(what, func(t *testing.T) {
			c := good
			test.change(&c)
			of, err := js.CreateStream(t.Context(), c)
			for tries := 0; err != nil && tries < 100; tries++ { // the one before is still being removed
				time.Sleep(20 * time.Millisecond)
				of, err = js.CreateStream(t.Context(), c)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := js.DeleteStream(context.Background(), c.Name); err != nil {
					t.Error(err)
				}
			}()
			before := of.CachedInfo().Config
			var log textLog
			st, err := Open(t.Context(), s.config(), log.logger())
			if err == nil {
				defer st.Close()
			}
			switch {
			case test.err != "":
				mentions(t, err, "stream \"AUDIT_default\" cannot keep", test.err)
			case err != nil:
				t.Error(err)
			case test.warns == "" && log.String() != "":
				t.Errorf("it warns: %s", log.String())
			case strings.Count(log.String(), "level=WARN") > 1 || !strings.Contains(log.String(), test.warns):
				t.Errorf("the log does not warn once of %q: %s", test.warns, log.String())
			}
			after, err := js.Stream(t.Context(), c.Name)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := before, after.CachedInfo().Config; a.Duplicates != b.Duplicates || a.MaxAge != b.MaxAge || a.MaxMsgSize != b.MaxMsgSize ||
				a.Discard != b.Discard || a.NoAck != b.NoAck || a.AllowRollup != b.AllowRollup {
				t.Errorf("the stream was changed: %+v", b)
			}
		})
	}
	nc.Close()
}

// withDefaultsForTest are the defaults with one replica.
func (c *Config) withDefaultsForTest() *Config {
	d := c.withDefaults()
	d.Replicas = 1
	return &d
}

func TestFewerReplicasThanAskedForAreAWarning(t *testing.T) {
	have, want := (&Config{}).withDefaultsForTest().wanted("x"), Config{}.withDefaults()
	weak := weaknesses(have, want.wanted("x"))
	if len(weak) != 1 || !strings.Contains(weak[0], "1 of 3 replicas") || !strings.Contains(weak[0], "--replicas 3, or give the store replicas 1") {
		t.Errorf("%q", weak)
	}
}

func TestASingleServerTakesOneReplica(t *testing.T) {
	s := serve(t, nil)
	c := s.config()
	c.Replicas = 0 // the default
	_, err := Open(t.Context(), c, nil)
	mentions(t, err, "opening audit store", "replicas 1", "10074")
}

func TestAMissingStreamThatIsNotToBeMadeSaysHow(t *testing.T) {
	s := serve(t, nil)
	c := s.config()
	c.NoCreate = true
	_, err := Open(t.Context(), c, nil)
	mentions(t, err, `there is no stream "AUDIT_default"`, "nats stream add AUDIT_default --subjects 'audit.default.*' --storage file", "--discard new", "--dupe-window 2h ")
	_, js := s.client()
	if _, err := js.CreateStream(t.Context(), (&Config{}).withDefaultsForTest().wanted(defaultClass)); err != nil {
		t.Fatal(err)
	}
	write(t, open(t, c, nil), records(t, 1, 5))
}

func TestAnotherStreamThatTakesTheSubjectIsNamedAsTheFault(t *testing.T) {
	s := serve(t, nil)
	_, js := s.client()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"audit.>"}}); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), s.config(), nil)
	mentions(t, err, "10065", "another stream takes its subject")
}

func TestAServerWithoutJetStreamSaysSo(t *testing.T) {
	s := serve(t, func(o *natsd.Options) { o.JetStream = false })
	_, err := Open(t.Context(), s.config(), nil)
	mentions(t, err, "check that JetStream is up")
}

func TestStoresThatStartAtOnceAllSucceed(t *testing.T) {
	s := serve(t, nil)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			c := s.config()
			c.DuplicateWindow = time.Duration(1+n) * time.Minute // they need not agree
			st, err := Open(context.Background(), c, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if err := st.Write(context.Background(), records(t, 10*n, 10*n+9)); err != nil {
				t.Error(err)
			}
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := s.got(); len(got) != 80 {
		t.Errorf("%d messages, want 80", len(got))
	}
}

func TestAStreamThatSomebodyDeletesIsNotMadeAnewInSilence(t *testing.T) {
	s := serve(t, nil)
	st := open(t, s.config(), nil)
	write(t, st, records(t, 1, 5))
	_, js := s.client()
	if err := js.DeleteStream(t.Context(), "AUDIT_default"); err != nil {
		t.Fatal(err)
	}
	err := st.Write(t.Context(), records(t, 6, 9))
	mentions(t, err, "publishing entries 6 to 9", "that the stream is there")
	if isRefused(err) {
		t.Error("a stream that is gone refuses nothing")
	}
	if _, err := js.Stream(t.Context(), "AUDIT_default"); err == nil {
		t.Error("it was made anew, and nobody knows that it was gone")
	}
}
