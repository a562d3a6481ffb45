package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/syntax"
)

const (
	defaultFoldCalls = 1000
	defaultFoldEvery = time.Minute

	// maxFoldedHashes bounds the further credentials that an entry names which
	// stands for several calls.
	maxFoldedHashes = 16

	// maxNetworks bounds the networks whose calls are counted apart; those
	// beyond it share one count.
	maxNetworks = 4096

	// Callers of one network, as providers hand them out, are counted together.
	networkBits4, networkBits6 = 24, 56
)

// Fold bounds what a flood of refused reads costs: a scanner's, or a broken
// client's. Reads that the API answers with 401 or 404, from callers that are
// not known, are counted by network (/24, /56). Beyond the rate they become one
// entry for each network and status, with their count, which is durable before
// the first of them is answered. A caller is known by a signature, or by a
// credential that the API has accepted within a day: for an operation that
// requires one, or, of an API that nobody has described, for any. The first 16
// further credentials that an entry stands for are in other_token_hashes.
type Fold struct {
	// Calls is how many are recorded one by one in each interval. Negative turns
	// folding off. Default: 1000.
	Calls int `json:"calls,omitempty"`

	// Every is the interval, from 1s to 1h. Default: 1m.
	Every caddy.Duration `json:"every,omitempty"`
}

func parseFold(args []string) (f Fold, err error) {
	const form = "fold takes how many refused reads of a network are recorded one by one in each interval, as in: fold 1000 1m, or: fold off"
	switch {
	case len(args) == 1 && args[0] == "off":
		return Fold{Calls: -1}, nil
	case len(args) != 1 && len(args) != 2:
		return f, errors.New(form)
	}
	if f.Calls, err = strconv.Atoi(args[0]); err != nil || f.Calls <= 0 {
		return f, errors.New(form)
	}
	if len(args) == 2 {
		if f.Every, err = syntax.Duration(args[1]); err != nil {
			return f, fmt.Errorf("fold %w", err)
		}
	}
	return f, f.check()
}

func (f *Fold) check() error {
	if f.Every != 0 && (time.Duration(f.Every) < time.Second || time.Duration(f.Every) > time.Hour) {
		return errors.New("fold: the interval must be from 1s to 1h")
	}
	return nil
}

// folder folds a site's calls.
type folder struct {
	calls int
	every time.Duration
	work  sync.WaitGroup

	mu       sync.Mutex
	networks map[netip.Prefix]*network
	closed   bool
}

func newFolder(f Fold) *folder {
	if f.Calls == 0 {
		f.Calls = defaultFoldCalls
	}
	if f.Every == 0 {
		f.Every = caddy.Duration(defaultFoldEvery)
	}
	return &folder{calls: f.Calls, every: time.Duration(f.Every), networks: map[netip.Prefix]*network{}}
}

// network is what came from one network in the running interval.
type network struct {
	until time.Time
	calls int
	folds map[int]*fold // by status
}

// fold is an entry that stands for several calls. It holds nothing else of the
// first of them, which may have been large.
type fold struct {
	handler *Handler
	id      string        // its entry's
	durable chan struct{} // closed when its entry is, or cannot be made so
	failed  bool          // set before durable is closed

	// Guarded by folder.mu until the interval has ended. The entry is the first
	// call's own until durable is closed.
	entry *audit.Entry
	count int
}

// place says what becomes of a call's entry. Without a fold it is recorded as
// ever; as first it is recorded as what stands for those that follow; else the
// fold's entry stands for it.
func (f *folder) place(c *call, a audit.Answer) (own *fold, first bool) {
	if f.calls < 0 || !c.mayFold(a) || c.known.Has(&c.entry.Actor) {
		return nil, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false
	}
	from, n := f.network(networkOf(c.entry.Actor.IP), a.At)
	if n.calls++; n.calls <= f.calls {
		return nil, false
	}
	if own = n.folds[a.Status]; own != nil {
		return own, false
	}
	own = &fold{handler: c.handler, id: c.entry.ID, entry: c.entry, durable: make(chan struct{})}
	n.folds[a.Status] = own
	c.entry.Count, c.entry.Folded = 1, &audit.Folded{Network: networkName(from), Until: n.until.UnixMicro()}
	return own, true
}

// network is where calls from a network are counted.
func (f *folder) network(from netip.Prefix, now time.Time) (netip.Prefix, *network) {
	n := f.networks[from]
	if n == nil && len(f.networks) >= maxNetworks {
		from = netip.Prefix{}
		n = f.networks[from]
	}
	if n == nil {
		n = &network{until: now.Add(f.every), folds: map[int]*fold{}}
		f.networks[from] = n
		time.AfterFunc(f.every, func() { f.expire(from, n) })
	}
	return from, n
}

// founded says whether the entry of a fold is durable. If it is not, nobody
// else's call may be without one.
func (f *folder) founded(own *fold, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own.count, own.failed = own.count+1, err != nil
	if own.failed {
		for _, n := range f.networks {
			for status, other := range n.folds {
				if other == own {
					delete(n.folds, status)
				}
			}
		}
	}
	close(own.durable)
}

// join lets a fold stand for a call, and reports false if it cannot. Its entry
// is durable then.
func (f *folder) join(own *fold, hash string) bool {
	<-own.durable // which takes no longer than the entry of any call
	f.mu.Lock()
	defer f.mu.Unlock()
	if own.failed || own.entry == nil {
		return false // its interval has ended
	}
	own.count++
	hashes := own.entry.Actor.OtherTokenHashes
	if hash != "" && hash != own.entry.Actor.TokenHash && len(hashes) < maxFoldedHashes && !slices.Contains(hashes, hash) {
		own.entry.Actor.OtherTokenHashes = append(hashes, hash)
	}
	return true
}

// expire ends a network's interval, unless everything has ended.
func (f *folder) expire(from netip.Prefix, n *network) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.work.Add(1)
	if f.networks[from] == n {
		delete(f.networks, from)
	}
	f.mu.Unlock()
	defer f.work.Done()
	f.end(n)
}

// end records how many calls a network's entries stand for, all at once, so that
// one group of the buffer takes them.
func (f *folder) end(networks ...*network) {
	var records sync.WaitGroup
	f.mu.Lock()
	for _, n := range networks {
		for _, own := range n.folds {
			entry := own.entry
			own.entry = nil
			if own.count > 1 {
				entry.Count = own.count
				records.Go(func() { own.handler.recordCount(entry) })
			}
		}
		n.folds = map[int]*fold{}
	}
	f.mu.Unlock()
	records.Wait()
}

// close records all that is counted. What comes after it is recorded one by one.
func (f *folder) close() {
	f.mu.Lock()
	f.closed = true
	open := slices.Collect(maps.Values(f.networks))
	f.networks = map[netip.Prefix]*network{}
	f.mu.Unlock()
	f.end(open...)
	f.work.Wait()
}

// recordCount records for how many calls an entry stands.
func (h *Handler) recordCount(e *audit.Entry) {
	e.Revised(time.Now())
	if err := h.append(e); err != nil && !errors.Is(err, buffer.ErrSlow) {
		h.log.Error("recording how many calls an entry stands for; it says fewer", "id", e.ID, "calls", e.Count, "error", err)
	}
}

// networkOf is whose calls count together; the zero value is of those whose
// address is not known.
func networkOf(ip string) netip.Prefix {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := networkBits6
	if addr.Is4() {
		bits = networkBits4
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

func networkName(p netip.Prefix) string {
	if !p.IsValid() {
		return "others"
	}
	return p.String()
}

// mayFold reports whether the call is one that a flood is made of: it only
// reads, the API refused it, nothing about it is on disk yet, and its entry is
// waited for, so that it can stand for others. An error route may still answer
// otherwise than an error's status says.
func (c *call) mayFold(a audit.Answer) bool {
	refused := a.Status == http.StatusUnauthorized || a.Status == http.StatusNotFound
	sensitive := c.facts.Operation != nil && c.facts.Operation.Sensitive
	return refused && a.Source == audit.StatusWritten && !c.facts.Changing && !sensitive &&
		c.entry.Policy.Durability == audit.DurabilityAnswer
}
