package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// dialWithin bounds a connection that is made to see whether somebody listens.
const dialWithin = 3 * time.Second

// checkStores looks whether each store can be reached and is what it should be. Nothing is
// written, unless a probe is asked for.
func checkStores(ctx context.Context, d *doctor) []diagnosis {
	if d.app == nil {
		return unread()
	}
	var questions []func(context.Context) diagnosis
	for _, n := range d.app.stores {
		questions = append(questions, func(ctx context.Context) diagnosis {
			if d.probe {
				return n.probeFinding(ctx)
			}
			return n.look(ctx)
		})
	}
	list := together(ctx, questions)
	if len(d.app.Stores) == 0 {
		list = append(list, warning("no store is configured: entries go to %s", locationOf(d.app.stores[0])).
			mend("say so yourself, as in: store sqlite /var/lib/caddy-audit/audit.db"))
	}
	if readableOf(d.app.stores) == nil {
		list = append(list, warning("none of the stores can be read back: there is no export, no search and no page").mend("add one that can, sqlite or postgres"))
	}
	if !slices.ContainsFunc(d.app.stores, func(n *store) bool { return n.Detachable == 0 }) {
		list = append(list, warning("each store is detachable: nothing holds what none of them has taken").mend("make one required: take its detachable away"))
	}
	return list
}

// probeFinding is what `caddy audit store check` says.
func (n *store) probeFinding(ctx context.Context) diagnosis {
	r := n.check(ctx)
	if r.OK {
		left := "no probe was left in it"
		if r.Probe != "" {
			left = "it took the probe " + r.Probe
		}
		return fine("%s: %s", n.title(), left)
	}
	why := "it cannot be used as it is"
	for _, s := range r.Steps {
		if s.Error != "" {
			why = s.Step + ": " + s.Error
		}
	}
	return wrong("%s: %s", n.title(), why).mend("\"caddy audit store check %s\" tries it again", n.name)
}

func (n *store) title() string {
	d := n.open.Describe()
	return fmt.Sprintf("store %s (%s %s)", n.name, d.Kind, d.Location)
}

// look reads a store that can be read, and else sees whether somebody listens there.
func (n *store) look(ctx context.Context) diagnosis {
	cure := fmt.Sprintf("\"caddy audit store check %s\", or --probe, tries to write to it", n.name)
	if o, ok := n.open.(forwarder.ReaderOpener); ok {
		r, err := o.OpenReader(ctx)
		switch {
		case err == nil:
			_ = r.Close() // it has shown what it is
			return fine("%s can be opened, and its schema is known; nothing was written to it", n.title())
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, forwarder.ErrUnprepared):
			return notKnown("%s: %v", n.title(), err).mend("start the server once; %s", cure)
		}
		return wrong("%s: %v", n.title(), err).mend("%s", cure)
	}
	address, ok := n.address()
	if !ok {
		return notKnown("%s: it was not tried, since that writes to it", n.title()).mend("%s", cure)
	}
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return wrong("%s: nobody can be reached at %s: %v", n.title(), address, withoutAddress(err)).mend("see whether it runs, and what is between here and there; %s", cure)
	}
	_ = conn.Close()
	return fine("%s: somebody listens at %s; nothing was written to it, which --probe does", n.title(), address)
}

// address is where somebody listens by TCP, and false where that is not known, or only
// through a proxy.
func (n *store) address() (string, bool) {
	u, err := url.Parse(n.open.Describe().Location)
	if err != nil || u.Hostname() == "" || u.Scheme == "udp" {
		return "", false
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
		if err != nil || proxy != nil {
			return "", false
		}
	}
	return hostPort(u.Hostname(), u.Port(), u.Scheme)
}

// withoutAddress is why a connection was not made; the address stands beside it.
func withoutAddress(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// checkCalls looks at what the running server does with calls.
func checkCalls(_ context.Context, d *doctor) []diagnosis {
	s := d.status
	if s == nil {
		return notRunning()
	}
	var list []diagnosis
	if !s.Calls.Holds {
		list = append(list, wrong("calls do not add up: %s seen, and %s accounted for", humanize.Comma(int64(s.Calls.Seen)), humanize.Comma(int64(sum(s.Calls.terms())+uint64(s.Calls.Open)))).
			mend("this is a defect: keep \"caddy audit status --json\" and the log, and report it"))
	}
	if s.Failing != "" {
		list = append(list, wrong("the buffer's disk fails: %s", s.Failing).mend("free or replace it; the buffer tries again by itself"))
	}
	if s.Slow {
		list = append(list, wrong("the buffer's disk keeps calls waiting for longer than max_wait").mend("look for what else writes to it"))
	}
	list = append(list, roomFindings(s)...)
	if s.PassingSince != nil {
		list = append(list, wrong("calls pass unrecorded since %s", s.PassingSince.Format(time.RFC3339)).mend("mend the disk or the stores that hold the buffer; a gap says how many calls passed"))
	}
	if s.PassUntil != nil {
		list = append(list, warning("by order, calls that cannot be recorded pass until %s", s.PassUntil.Format(time.RFC3339)).mend("when it is not needed any more: caddy audit pass --end"))
	}
	if s.Damaged > 0 {
		list = append(list, warning("%s entries were found damaged", humanize.Comma(int64(s.Damaged))).mend("audit.gap entries say which, and other stores may have them; look at the disk"))
	}
	if s.Calls.Refused > 0 {
		list = append(list, warning("%s of %s calls were refused since the buffer was made", humanize.Comma(int64(s.Calls.Refused)), humanize.Comma(int64(s.Calls.Seen))).
			mend("see in the log, or in caddy_audit_calls_total, when that was"))
	}
	if len(list) == 0 {
		list = append(list, fine("%s calls add up, and are recorded", humanize.Comma(int64(s.Calls.Seen))))
	}
	return list
}

// notRunning is what a check says that needs a server.
func notRunning() []diagnosis {
	return []diagnosis{notKnown("no server was asked").mend("start it; \"caddy audit status\" reads the files of one that is down")}
}

// nearlyFull is the part of a bound from which on it is in sight.
const nearlyFull = 0.8

func roomFindings(s *Status) (list []diagnosis) {
	size := func(b int64) string { return humanize.IBytes(uint64(max(0, b))) }
	switch {
	case s.FreeBytes > 0 && s.FreeBytes < s.MinFreeBytes:
		list = append(list, wrong("the buffer counts as full: its disk has %s free, and leaves %s to others", size(s.FreeBytes), size(s.MinFreeBytes)).mend("free some of it"))
	case s.BufferMaxBytes > 0 && s.BufferBytes+reserveBytes > s.BufferMaxBytes:
		list = append(list, wrong("the buffer is full: %s of %s", size(s.BufferBytes), size(s.BufferMaxBytes)).
			mend("mend the store that does not keep up; raising max_size and reloading helps at once, if the disk has room"))
	case float64(s.BufferBytes) > nearlyFull*float64(s.BufferMaxBytes) && s.BufferMaxBytes > 0:
		list = append(list, warning("the buffer is nearly full: %s of %s", size(s.BufferBytes), size(s.BufferMaxBytes)).mend("mend the store that does not keep up, or raise max_size"))
	}
	if s.StrangersMaxBytes > 0 && float64(s.StrangersBytes) > nearlyFull*float64(s.StrangersMaxBytes) {
		list = append(list, warning("callers that are not known have nearly used up their share: %s of %s", size(s.StrangersBytes), size(s.StrangersMaxBytes)).
			mend("see from where with \"caddy audit tail\"; if all come from a load balancer, trusted_proxies is missing"))
	}
	return list
}

// longPending is for how long an entry may wait for a store until somebody should look.
const longPending = 5 * time.Minute

// checkDelivery looks at what the running server's stores have.
func checkDelivery(_ context.Context, d *doctor) []diagnosis {
	s := d.status
	if s == nil {
		return notRunning()
	}
	var list []diagnosis
	if pending := time.Duration(s.OldestPendingSeconds * float64(time.Second)); pending > longPending {
		list = append(list, warning("the oldest entry waits for a store since %s: that is what losing the disk would lose", spell(pending.Seconds())).mend("mend the store that is behind, below"))
	}
	for i := range s.Stores {
		list = append(list, deliveryFindings(&s.Stores[i], s.Head)...)
	}
	if len(list) == 0 {
		list = append(list, fine("each store's entries add up; the oldest that waits does so since %s", spell(s.OldestPendingSeconds)))
	}
	return list
}

func deliveryFindings(s *StatusStore, head uint64) (list []diagnosis) {
	n := func(v uint64) string { return humanize.Comma(int64(v)) }
	if !s.Holds {
		list = append(list, wrong("store %s: its entries do not add up: %s since it began", s.Name, n(head-s.Start)).
			mend("this is a defect: keep \"caddy audit status --json\" and the log, and report it"))
	}
	if s.FailingSince != nil {
		list = append(list, wrong("store %s is failing since %s: %s", s.Name, s.FailingSince.Format(time.RFC3339), s.LastError).
			mend("its entries wait in the buffer and are tried again; \"caddy audit store check %s\" tries it from here", s.Name))
	}
	if s.Quarantined > 0 {
		list = append(list, warning("store %s refuses %s entries, which are in quarantine", s.Name, n(s.Quarantined)).
			mend("\"caddy audit quarantine list %s\" says why; then retry or drop them", s.Name))
	}
	if s.MaxPendingBytes > 0 && float64(s.PendingBytes) > nearlyFull*float64(s.MaxPendingBytes) {
		list = append(list, warning("store %s is about to be detached: %s of the %s that may wait for it do", s.Name,
			humanize.IBytes(uint64(max(0, s.PendingBytes))), humanize.IBytes(uint64(s.MaxPendingBytes))).mend("mend it, or raise its detachable and reload"))
	}
	if s.Skipped > 0 {
		list = append(list, warning("store %s did not get %s entries", s.Name, n(s.Skipped)).mend("audit.gap entries say which; export them from another store"))
	}
	if !s.Configured {
		list = append(list, warning("store %s is not in the configuration any more, and %s entries wait for it", s.Name, n(s.Pending)).
			mend("put it back if that was not meant; else it is forgotten by itself"))
	}
	return list
}
