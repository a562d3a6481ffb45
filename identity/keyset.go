package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/internal/fetch"
)

const (
	// maxKeySet bounds a key set, in bytes.
	maxKeySet = 1 << 20
	// fetchWithin bounds one reading of a key set.
	fetchWithin = 2 * time.Second

	// What max-age may ask for, and what it is without one.
	minKeyAge     = time.Minute
	maxKeyAge     = 24 * time.Hour
	defaultKeyAge = 10 * time.Minute

	// wantedEvery is how often an unknown key makes a set be read again before
	// its time.
	wantedEvery = time.Minute

	// After a failure a set is read again soon, and then less and less often.
	firstRetry = 5 * time.Second
	lastRetry  = time.Minute
)

// keys is a key set as it was once. A set that is read again without a change
// stays the same value, so that what it has verified stays verified.
type keys struct {
	raw  []byte
	list []audit.Key
}

// keySet is the key set at a URL, read again and again while a configuration
// uses it. A reload goes on with the keys that are there.
type keySet struct {
	url string
	log func() *slog.Logger
	get func(ctx context.Context) (set []byte, age time.Duration, err error)

	current atomic.Pointer[keys] // nil until it has been read once
	wanted  chan struct{}        // holds one wish for a key that is not there

	// Owned by keySets.
	users  int
	cancel context.CancelFunc
	done   chan struct{}
}

func newKeySet(address string, log func() *slog.Logger) *keySet {
	return &keySet{
		url: address, log: log, wanted: make(chan struct{}, 1), done: make(chan struct{}),
		get: func(ctx context.Context) ([]byte, time.Duration, error) { return fetchKeys(ctx, address) },
	}
}

// logger is asked for anew each time: that of the configuration that the set
// began with may be closed.
func (k *keySet) logger() *slog.Logger { return k.log().With("jwks", WithoutQuery(k.url)) }

// want asks for a reading before its time. It never waits.
func (k *keySet) want() {
	select {
	case k.wanted <- struct{}{}:
	default:
	}
}

// run reads the set until ctx ends.
func (k *keySet) run(ctx context.Context) {
	defer close(k.done)
	var failures int
	for {
		read := time.Now()
		age, err := k.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			age = min(firstRetry<<min(failures, 8), lastRetry)
			if failures++; failures == 1 {
				k.logger().Warn("reading an issuer's keys; until it succeeds, those from before count",
					"error", err, "keys", k.size())
			}
		case failures > 0:
			k.logger().Info("an issuer's keys can be read again", "failures", failures, "keys", k.size())
			failures = 0
		}
		if !k.rest(ctx, read, age) {
			return
		}
	}
}

// rest waits until the set is to be read again, and reports false when ctx has
// ended.
func (k *keySet) rest(ctx context.Context, read time.Time, age time.Duration) bool {
	due := time.NewTimer(time.Until(read.Add(age)))
	defer due.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-due.C:
		return true
	case <-k.wanted:
	}
	soon := time.NewTimer(time.Until(read.Add(min(age, wantedEvery))))
	defer soon.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-soon.C:
		return true
	}
}

func (k *keySet) size() int {
	if now := k.current.Load(); now != nil {
		return len(now.list)
	}
	return 0
}

// read reads the set once, and says for how long it holds.
func (k *keySet) read(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	raw, age, err := k.get(ctx)
	if err != nil {
		return 0, err
	}
	before := k.current.Load()
	if before != nil && bytes.Equal(before.raw, raw) {
		return age, nil
	}
	list, leftOut, err := audit.ParseKeys(raw)
	if err != nil {
		return 0, err
	}
	k.current.Store(&keys{raw: raw, list: list})
	if leftOut > 0 || len(list) == 0 {
		k.logger().Warn("an issuer's key set has keys that cannot verify a signature, or none that can",
			"keys", len(list), "left_out", leftOut)
	}
	return age, nil
}

// keysFetcher keeps no connections: a set is read every few minutes.
var keysFetcher = fetch.New(fetch.Transport(0), maxKeySet, "1 MiB, so it is no key set", "has the keys")

func fetchKeys(ctx context.Context, address string) (set []byte, age time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, fetch.ErrURL
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	r, err := keysFetcher.Do(req)
	if err != nil {
		return nil, 0, err
	}
	return r.Body, maxAge(r.Header), nil
}

// maxAge is how long an answer holds by its Cache-Control, within bounds.
func maxAge(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Cache-Control"), ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return minKeyAge
		case "max-age":
			seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
			if err != nil {
				return defaultKeyAge
			}
			return min(max(time.Duration(seconds)*time.Second, minKeyAge), maxKeyAge)
		}
	}
	return defaultKeyAge
}

// ReadKeysFile reads the key set of a file, which must have a key. What cannot
// verify a signature is left out, and logged.
func ReadKeysFile(path string, log *slog.Logger) ([]audit.Key, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("jwks file: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("jwks file: %w: choose a file that this user can read", err)
	}
	defer f.Close()
	set, err := io.ReadAll(io.LimitReader(f, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("jwks file %q: %w", path, err)
	}
	if len(set) > maxKeySet {
		return nil, fmt.Errorf("jwks file %q: it has more than 1 MiB, so it is no key set", path)
	}
	keys, leftOut, err := audit.ParseKeys(set)
	if err != nil {
		return nil, fmt.Errorf("jwks file %q: %w", path, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("jwks file %q: it has no key that can verify a signature: give it public RSA (2048 bits or more), EC or Ed25519 keys", path)
	}
	if leftOut > 0 {
		log.Warn("leaving keys out that cannot verify a signature", "file", path, "left_out", leftOut)
	}
	return keys, nil
}

// KeySource is an issuer's way to its key set at a URL. It has none before Start,
// and keeps the keys, though none newer, after Stop: calls in flight go on.
type KeySource struct {
	url string
	set atomic.Pointer[keySet]
}

// NewKeySource reads nothing yet.
func NewKeySource(url string) *KeySource { return &KeySource{url: url} }

// Start has the set read in the background, again and again. All sources of one
// URL share what is read, so that one that starts before another one stops, as
// at a reload, goes on with the keys that are there. The reading may outlive
// this source, so it asks for a logger whenever it has something to say.
func (s *KeySource) Start(log func() *slog.Logger) { keySets.acquire(s, log) }

// Stop takes the source away from the reading, and returns when nothing is read
// for it any more. It must follow Start, once.
func (s *KeySource) Stop() { keySets.release(s) }

// Loaded reports whether the set has been read.
func (s *KeySource) Loaded() bool { return s.keys() != nil }

// Read reads the set at once, for who cannot wait until it is due. Where it
// fails, the keys from before stay.
func (s *KeySource) Read(ctx context.Context) error {
	set := s.set.Load()
	if set == nil {
		return errors.New("reading an issuer's keys: it has not been started")
	}
	_, err := set.read(ctx)
	return err
}

func (s *KeySource) keys() *keys {
	if set := s.set.Load(); set != nil {
		return set.current.Load()
	}
	return nil
}

func (s *KeySource) want() {
	if set := s.set.Load(); set != nil {
		set.want()
	}
}

// keySetPool holds the key sets that are read, by their URL.
type keySetPool struct {
	mu   sync.Mutex
	sets map[string]*keySet
}

var keySets = keySetPool{sets: map[string]*keySet{}}

// acquire gives a source its set, and begins to read it if nobody does yet.
func (p *keySetPool) acquire(s *KeySource, log func() *slog.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := p.sets[s.url]
	if set == nil {
		set = newKeySet(s.url, log)
		var ctx context.Context
		ctx, set.cancel = context.WithCancel(context.Background())
		p.sets[s.url] = set
		go set.run(ctx)
	}
	set.users++
	s.set.Store(set)
}

// release takes a user away. After the last one nothing is read any more.
func (p *keySetPool) release(s *KeySource) {
	set := s.set.Load()
	p.mu.Lock()
	set.users--
	last := set.users == 0
	if last {
		delete(p.sets, s.url)
	}
	p.mu.Unlock()
	if last {
		set.cancel()
		<-set.done
	}
}
