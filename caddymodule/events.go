package caddymodule

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stamps"
)

const (
	// heartbeatEvery is how often the sidecar says that it is there. Within
	// it, an end of the log that was cut off shows.
	heartbeatEvery = time.Minute
	// maxPolicyLines bounds what one event lists.
	maxPolicyLines = 100
)

// event records an event of the sidecar itself. When the disk keeps it waiting
// the entry follows later, and that the disk does is in the log already; what cannot be
// recorded at all is logged, the first of a row. It reports whether the entry is durable.
func (s *shared) event(code string, facts map[string]any) bool {
	payload, err := audit.Event(code, time.Now(), facts).Encode()
	if err == nil {
		err = s.buf.Append(payload)
	}
	switch {
	case err == nil:
		if s.troubles.ended("event") {
			s.log().Info("events of the sidecar are recorded again", "event", code)
		}
	case errors.Is(err, buffer.ErrSlow):
	case s.troubles.failed("event"):
		s.log().Warn("recording an event of the sidecar; until one can be recorded, events are missing", "event", code, "error", err)
	}
	return err == nil
}

// began records the first configuration's start.
func (s *shared) began(a *App) {
	if r := s.buf.Recovered(); r.Unclean {
		uncleanStart.SetToCurrentTime()
		uncleanStartCalls.Set(float64(r.Unknown))
		facts := map[string]any{"calls_unknown": r.Unknown}
		if !r.At.IsZero() {
			facts["last_commit"] = r.At.UTC().Format(time.RFC3339Nano)
		}
		if r.MayHavePassed {
			// With on_fault pass, a disk that took not even the marker leaves
			// nothing else behind.
			facts["may_have_passed_since"] = facts["last_commit"]
		}
		s.event(audit.EventUncleanStart, facts)
	}
	policy := a.policy()
	version, _ := caddy.Version()
	if s.event(audit.EventStarted, map[string]any{
		"caddy_version": version, "config_hash": hashLines(policy), "policy": bounded(policy),
	}) {
		s.beaten.Store(time.Now().Unix())
	}
	s.beats.Do(func() { s.beating.Go(s.beat) })
}

// stopped records that no configuration uses the buffer any longer, once. It
// reports false if one does, or none ever did.
func (s *shared) stopped() bool {
	s.mu.Lock()
	stops := s.begun && len(s.generations) == 0
	if stops {
		s.begun = false
	}
	s.mu.Unlock()
	if stops {
		s.event(audit.EventStopped, s.counters())
	}
	return stops
}

// beat records heartbeats until the buffer closes.
func (s *shared) beat() {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.heartbeat()
			s.saveKnown()
			s.saveDirectory()
			s.keepTokenKey()
		case <-s.closing:
			return
		}
	}
}

// saveDirectory writes whose projects are.
func (s *shared) saveDirectory() {
	if err := s.directory.Save(); err == nil {
		if s.troubles.ended("directory") {
			s.log().Info("whose projects are can be written again")
		}
	} else if s.troubles.failed("directory") {
		s.log().Warn("writing whose projects are; until it succeeds, a kill forgets what was learned since", "error", err)
	}
}

// heartbeat says how far the log is, so that a reader notices when its tail is
// cut off.
func (s *shared) heartbeat() {
	if s.event(audit.EventHeartbeat, s.counters()) {
		s.beaten.Store(time.Now().Unix())
	}
}

// lastHeartbeat is when the sidecar last said that it is there, in seconds since the Unix
// epoch; zero if it has not since the start.
func (a *App) lastHeartbeat() int64 {
	if s := a.shared.Load(); s != nil {
		return s.beaten.Load()
	}
	return 0
}

func (s *shared) counters() map[string]any {
	b := s.buf.Stats()
	return map[string]any{"last_sequence": b.Head, "calls": b.Calls, "open": b.Open}
}

// changed records that another configuration is in force from here on, if it
// records differently.
func (s *shared) changed(from, to *App) {
	before, after := from.policy(), to.policy()
	if slices.Equal(before, after) {
		return
	}
	var diff []string
	for _, line := range before {
		if !slices.Contains(after, line) {
			diff = append(diff, "- "+line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			diff = append(diff, "+ "+line)
		}
	}
	configChanged.SetToCurrentTime()
	s.event(audit.EventConfigChanged, map[string]any{
		"from": hashLines(before), "to": hashLines(after), "changes": bounded(diff),
	})
}

// policy describes what the configuration records and where it keeps it, a
// sorted line each.
func (a *App) policy() []string {
	c := a.options()
	lines := []string{fmt.Sprintf("buffer %s max_size %d max_wait %s min_free %d on_fault %s",
		a.dir, c.MaxSize, c.MaxWait, c.MinFree, cmp.Or(a.Buffer.OnFault, onFaultReject))}
	for _, n := range a.stores {
		lines = append(lines, n.Describe())
	}
	lines = append(lines, a.Keep.Lines()...)
	lines = append(lines, stamps.ReadableLines(a.Readable)...)
	lines = append(lines, a.Organizations.Lines()...)
	for _, h := range a.handlers {
		lines = append(lines, h.policyLines...)
	}
	for _, v := range a.viewers {
		lines = append(lines, v.Lines()...)
	}
	slices.Sort(lines)
	return lines
}

// describe must be asked before the rules are provisioned, which takes their
// raw matchers away.
func (h *Handler) describe() []string {
	lines := []string{"site " + h.configHash + ": platform " + h.platform.Name}
	for _, c := range h.Catalogs {
		lines = append(lines, fmt.Sprintf("site %s: %s", h.configHash, c))
	}
	for _, i := range h.Issuers {
		lines = append(lines, fmt.Sprintf("site %s: %s", h.configHash, i))
	}
	for _, t := range h.Tokens {
		lines = append(lines, fmt.Sprintf("site %s: %s", h.configHash, t))
	}
	for _, p := range h.Credentials {
		lines = append(lines, fmt.Sprintf("site %s: %s", h.configHash, p))
	}
	for _, l := range h.Lookups {
		lines = append(lines, fmt.Sprintf("site %s: %s", h.configHash, l))
	}
	for field, name := range h.trusted {
		lines = append(lines, fmt.Sprintf("site %s: answer_header %s %s", h.configHash, field, name))
	}
	if h.Capture != nil {
		lines = append(lines, fmt.Sprintf("site %s: %s", h.configHash, h.Capture))
	}
	if h.Fold != (Fold{}) {
		lines = append(lines, fmt.Sprintf("site %s: fold %d %s", h.configHash, h.Fold.Calls, time.Duration(h.Fold.Every)))
	}
	for i, r := range h.Rules {
		lines = append(lines, fmt.Sprintf("site %s: %d: %s", h.configHash, i+1, r))
	}
	return lines
}

func hashLines(lines []string) string {
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:8])
}

// bounded keeps an event's size in bounds, whatever the configuration.
func bounded(lines []string) []string {
	var out []string
	for i, line := range lines {
		if i == maxPolicyLines {
			return append(out, fmt.Sprintf("… and %d more", len(lines)-i))
		}
		if len(line) > 256 {
			// Two that differ behind that must not look the same.
			line = strings.ToValidUTF8(line[:256], "") + "… " + hashLines([]string{line})
		}
		out = append(out, line)
	}
	return out
}
