package operator

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// TokenKeyPath is where the key of a buffer's directory is.
func TokenKeyPath(dir string) string { return filepath.Join(dir, "token.key") }

// KnownPath is where the callers are kept that the API has accepted lately.
func KnownPath(dir string) string { return filepath.Join(dir, "known") }

// ReadTokenKey reads the directory's key and makes none.
func ReadTokenKey(dir string) (*audit.TokenKey, error) {
	path := TokenKeyPath(dir)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading token key: %w", err)
	}
	key := new(audit.TokenKey)
	if len(b) != len(key) {
		return nil, fmt.Errorf("reading token key %q: it has %d bytes instead of %d: restore it from a backup, or remove it to begin with a new one", path, len(b), len(key))
	}
	copy(key[:], b)
	return key, nil
}
