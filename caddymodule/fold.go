package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	defaultFoldCalls = 1000
	defaultFoldEvery = time.Minute

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
// credential that the API has accepted within a day.
type Fold struct {
	// Calls is how many are recorded one by one in each interval. Negative turns
	// folding off. Default: 1000.
	Calls int `json:"calls,omitempty"`

	// Every is the interval. Default: 1m.
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
		if f.Every, err = parseDuration(args[1]); err != nil {
			return f, fmt.Errorf("fold %w", err)
		}
	}
	return f, f.check()
}

func (f *Fold) check() error {
	if f.Every < 0 || f.Every != 0 && time.Duration(f.Every) < time.Second {
		return errors.New("fold: the interval must be 1s or more")
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

// fold is an entry that stands for several calls.
type fold struct {
	call    *call
	count   int           // guarded by folder.mu
	durable chan struct{} // closed when its entry is, or cannot be made so
	failed  bool          // set before durable is closed
}

// place says what becomes of a call's entry. Without a fold it is recorded as
// ever; with one that is the call's own it is recorded as what stands for those
// that follow; else another entry stands for it.
func (f *folder) place(c *call, status int, now time.Time) *fold {
	if f.calls < 0 || status != http.StatusUnauthorized && status != http.StatusNotFound || !c.mayFold() || c.known.Has(&c.entry.Actor) {
		return nil
	}
	from := networkOf(c.entry.Actor.IP)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	n := f.networks[from]
	if n == nil {
		if len(f.networks) >= maxNetworks {
			from = netip.Prefix{}
			n = f.networks[from]
		}
		if n == nil {
			n = &network{until: now.Add(f.every), folds: map[int]*fold{}}
			f.networks[from] = n
			time.AfterFunc(f.every, func() { f.expire(from, n) })
		}
	}
	if n.calls++; n.calls <= f.calls {
		return nil
	}
	own := n.folds[status]
	if own == nil {
		own = &fold{call: c, durable: make(chan struct{})}
		n.folds[status] = own
		c.entry.Folded = &audit.Folded{Network: networkName(from), Until: n.until.UnixMicro()}
	}
	own.count++
	if own.call == c {
		c.entry.Count = 1
	}
	return own
}

// expire ends a network's interval, unless everything has ended.
func (f *folder) expire(from netip.Prefix, n *network) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.work.Add(1)
	f.mu.Unlock()
	defer f.work.Done()
	f.end(from, n)
}

// end closes a network's interval and records how many calls its entries stand
// for.
func (f *folder) end(from netip.Prefix, n *network) {
	f.mu.Lock()
	if f.networks[from] == n {
		delete(f.networks, from)
	}
	counts := map[*fold]int{}
	for _, own := range n.folds {
		counts[own] = own.count
	}
	n.folds, n.calls = map[int]*fold{}, 0
	f.mu.Unlock()
	for own, count := range counts {
		own.call.folded(count)
	}
}

// close records all that is counted. What comes after it is recorded one by one.
func (f *folder) close() {
	f.mu.Lock()
	f.closed = true
	open := f.networks
	f.networks = map[netip.Prefix]*network{}
	f.mu.Unlock()
	for from, n := range open {
		f.end(from, n)
	}
	f.work.Wait()
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
// reads, and nothing about it is on disk yet.
func (c *call) mayFold() bool {
	return !c.facts.Changing && c.entry.Policy.Durability != audit.DurabilityStrict
}

// fold lets another entry stand for the call, and reports whether one does. That
// entry is durable then.
func (c *call) fold(own *fold) bool {
	<-own.durable // which takes no longer than max_wait
	if own.failed {
		return false
	}
	c.record.Fold()
	c.foldedInto = own.call.entry.ID
	return true
}

// folded records for how many calls the entry stands.
func (c *call) folded(count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if count <= c.entry.Count {
		return
	}
	c.entry.Count = count
	c.entry.Revised(time.Now())
	if err := c.append(); err != nil {
		c.handler.log.Error("recording how many calls an entry stands for; it says fewer", "id", c.entry.ID, "calls", count, "error", err)
	}
}
