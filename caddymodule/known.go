package caddymodule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/identity"
)

// loadKnown reads the callers that the API had accepted before a restart. Without
// them, a full share of strangers would keep everybody out.
func loadKnown(dir string, k *identity.Known) error {
	b, err := os.ReadFile(operator.KnownPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = k.UnmarshalBinary(b)
	}
	if err != nil {
		return fmt.Errorf("reading %q: %w", operator.KnownPath(dir), err)
	}
	return nil
}

// lastSeenIn is when a sidecar last wrote the callers that are known, which each does
// every minute; zero if none did.
func lastSeenIn(dir string) time.Time {
	info, err := os.Stat(operator.KnownPath(dir))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// saveKnown writes them. A kill forgets those of the last minute.
func (s *shared) saveKnown() {
	b, err := s.known.MarshalBinary()
	if err == nil {
		err = writeDurably(operator.KnownPath(s.dir), b)
	}
	if err == nil {
		if s.troubles.ended("known") {
			s.log().Info("the callers that are known can be written again")
		}
		return
	}
	if s.troubles.failed("known") {
		s.log().Warn("writing the callers that are known; until it succeeds, a start learns them anew", "error", err)
	}
}
