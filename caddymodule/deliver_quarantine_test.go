package caddymodule

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
)

// A directory whose quarantine holds what no store has must not be called delivered.
func TestDeliveringABufferDoesNotSayThatItCanBeRemovedWhileEntriesAreInQuarantine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "buffer")
	b, err := buffer.Open(dir, buffer.Options{Gap: gapEntry, MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/a", "/poison", "/b", "/c"} {
		e := audit.Event(audit.EventProbe, time.Now(), map[string]any{"path": path})
		payload, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Append(payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	setPicky(t, "/poison", false)
	app := &App{log: slog.New(slog.DiscardHandler), stores: stores.List{{StoreConfig: new(stores.StoreConfig), Name: "picky", Opener: new(pickyStore)}}}
	var out bytes.Buffer
	err = app.Deliver(t.Context(), dir, &out, func(_, _ int64) {})
	st, statErr := buffer.Inspect(dir)
	if statErr != nil {
		t.Fatal(statErr)
	}
	if st.Stores["picky"].Quarantined != 1 {
		t.Fatalf("%+v", st.Stores["picky"])
	}
	if err == nil && strings.Contains(out.String(), "can be removed") {
		t.Errorf("an entry is nowhere but in the directory's quarantine, and it says:\n%s", out.String())
	}
}

// What another store was to get is not delivered when those of this configuration have all.
func TestDeliveringABufferDoesNotSayThatItCanBeRemovedWhileAnotherStoreIsOwed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "buffer")
	b, err := buffer.Open(dir, buffer.Options{Gap: gapEntry, MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Attach("siem", buffer.Attachment{Destination: "elsewhere"}); err != nil {
		t.Fatal(err)
	}
	payload, err := audit.Event(audit.EventProbe, time.Now(), nil).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Append(payload), b.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	setPicky(t, "/poison", false)
	app := &App{log: slog.New(slog.DiscardHandler), stores: stores.List{{StoreConfig: new(stores.StoreConfig), Name: "picky", Opener: new(pickyStore)}}}
	var out bytes.Buffer
	err = app.Deliver(t.Context(), dir, &out, func(_, _ int64) {})
	if err == nil || !strings.Contains(err.Error(), "siem") || strings.Contains(out.String(), "can be removed") || !strings.Contains(out.String(), "siem: 1 not delivered") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
