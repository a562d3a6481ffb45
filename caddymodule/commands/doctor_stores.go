package commands

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

	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/stores"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// dialWithin bounds a connection that is made to see whether somebody listens.
const dialWithin = 3 * time.Second

// checkStores looks whether each store can be reached and is what it should be. Nothing is
// written, unless a probe is asked for.
func checkStores(ctx context.Context, d *examination) []doctor.Diagnosis {
	if d.app == nil {
		return unread()
	}
	all := d.app.Retention().Stores
	var questions []doctor.Question
	for _, n := range all {
		look := lookAtStore
		if d.probe {
			look = probeStore
		}
		questions = append(questions, doctor.Question{Whom: storeTitle(n), Look: func(ctx context.Context) doctor.Diagnosis { return look(ctx, n) }})
	}
	list := doctor.Together(ctx, questions)
	if len(d.given().Stores) == 0 {
		list = append(list, doctor.Warning("no store is configured: entries go to %s", locationOf(all[0])).
			Mend("say so yourself, as in: store sqlite /var/lib/caddy-audit/audit.db"))
	}
	if all.Readable() == nil {
		list = append(list, doctor.Warning("none of the stores can be read back: there is no export, no search and no page").Mend("add one that can, sqlite or postgres"))
	}
	if !slices.ContainsFunc(all, func(n *stores.Store) bool { return n.Detachable == 0 }) {
		list = append(list, doctor.Warning("each store is detachable: nothing holds what none of them has taken").Mend("make one required: take its detachable away"))
	}
	return list
}

// probeStore says what `caddy audit store check` does.
func probeStore(ctx context.Context, n *stores.Store) doctor.Diagnosis {
	r := n.Check(ctx)
	if r.OK {
		left := "no probe was left in it"
		if r.Probe != "" {
			left = "it took the probe " + r.Probe
		}
		return doctor.Fine("%s: %s", storeTitle(n), left)
	}
	why := "it cannot be used as it is"
	for _, s := range r.Steps {
		if s.Error != "" {
			why = s.Step + ": " + s.Error
		}
	}
	return doctor.Wrong("%s: %s", storeTitle(n), why).Mend("\"caddy audit store check %s\" tries it again", n.Name)
}

func storeTitle(n *stores.Store) string {
	d := n.Opener.Describe()
	return fmt.Sprintf("store %s (%s %s)", n.Name, d.Kind, d.Location)
}

// lookAtStore reads a store that can be read, and else sees whether somebody listens there.
func lookAtStore(ctx context.Context, n *stores.Store) doctor.Diagnosis {
	cure := fmt.Sprintf("\"caddy audit store check %s\", or --probe, tries to write to it", n.Name)
	if o, ok := n.Opener.(forwarder.ReaderOpener); ok {
		r, err := o.OpenReader(ctx)
		switch {
		case err == nil:
			_ = r.Close() // it has shown what it is
			return doctor.Fine("%s can be opened, and its schema is known; nothing was written to it", storeTitle(n))
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, forwarder.ErrUnprepared):
			return doctor.NotKnown("%s: %v", storeTitle(n), err).Mend("start the server once; %s", cure)
		}
		return doctor.Wrong("%s: %v", storeTitle(n), err).Mend("%s", cure)
	}
	address, ok := storeAddress(n)
	if !ok {
		return doctor.NotKnown("%s: it was not tried, since that writes to it", storeTitle(n)).Mend("%s", cure)
	}
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return doctor.Wrong("%s: nobody can be reached at %s: %v", storeTitle(n), address, withoutAddress(err)).Mend("see whether it runs, and what is between here and there; %s", cure)
	}
	_ = conn.Close()
	return doctor.Fine("%s: somebody listens at %s; nothing was written to it, which --probe does", storeTitle(n), address)
}

// storeAddress is where somebody listens by TCP, and false where that is not known, or only
// through a proxy.
func storeAddress(n *stores.Store) (string, bool) {
	u, err := url.Parse(n.Opener.Describe().Location)
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
