package stores

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// Report says what a check of a store has found.
type Report struct {
	Name  string                `json:"name"`
	Store forwarder.Description `json:"store"`
	OK    bool                  `json:"ok"`
	// Probe is the id of the entry that was written, empty for a store that can be tried
	// without leaving one.
	Probe string `json:"probe,omitempty"`
	Steps []Step `json:"steps"`
}

// Step is one of a check, and how it went.
type Step struct {
	Step    string  `json:"step"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
}

// step does one and notes how it went.
func (r *Report) step(name string, do func() error) bool {
	start := time.Now()
	err := do()
	s := Step{Step: name, Seconds: time.Since(start).Seconds()}
	if err != nil {
		s.Error = err.Error()
	}
	r.Steps = append(r.Steps, s)
	return err == nil
}

// Check tries the store with a probe.
func (n *Store) Check(ctx context.Context) (r Report) {
	r = Report{Name: n.Name, Store: n.Opener.Describe()}
	probe, err := n.probe()
	if err != nil {
		r.step("encode", func() error { return err })
		return r
	}
	if p, ok := n.Opener.(forwarder.ProbeOpener); ok {
		r.OK = r.step("probe", func() error { return p.Probe(ctx, probe) })
		return r
	}
	r.Probe = probe.Entry.ID
	var s forwarder.Store
	if !r.step("open", func() error { s, err = n.Opener.Open(ctx, slog.New(slog.DiscardHandler)); return err }) {
		return r
	}
	wrote := r.step("write", func() error {
		err := s.Write(ctx, []forwarder.Record{probe})
		if IsRefused(err) {
			return fmt.Errorf("%w: it refuses what is in the probe, which is as simple as an entry can be: look at its schema and limits", err)
		}
		return err
	})
	r.OK = r.step("close", s.Close) && wrote
	return r
}

// probe is an entry of a buffer that does not exist, so that no hole in the numbers of a
// real one comes of it.
func (n *Store) probe() (forwarder.Record, error) {
	payload, err := audit.Event(audit.EventProbe, time.Now(), map[string]any{"store": n.Name}).Encode()
	if err != nil {
		return forwarder.Record{}, err
	}
	record, err := forwarder.NewRecord(uuid.NewString(), 1, payload)
	if format := n.Options().Format; err == nil && format != nil {
		record.JSON, err = format(record.JSON)
	}
	return record, err
}

// IsRefused reports whether a store has refused what is in an entry, and would take others.
func IsRefused(err error) bool {
	_, refused := errors.AsType[*forwarder.RefusedError](err)
	return refused
}
