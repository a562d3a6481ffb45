package caddymodule

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func init() {
	caddy.RegisterModule(new(watchedStore))
}

// watchedStore notes who writes what, over all configurations of the process.
type watchedStore struct{}

var watched struct {
	sync.Mutex
	writing, most int
	sequences     []uint64
}

func (*watchedStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "audit_log.stores.watched", New: func() caddy.Module { return new(watchedStore) }}
}

func (*watchedStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

func (*watchedStore) Describe() forwarder.Description { return forwarder.Description{Kind: "watched"} }

func (s *watchedStore) Open(context.Context, *slog.Logger) (forwarder.Store, error) { return s, nil }

func (*watchedStore) Close() error { return nil }

// watchedHangs is what each write waits for first, as on a disk that hangs.
var watchedHangs atomic.Pointer[watchedHang]

type watchedHang struct{ wait func() }

func (*watchedStore) Write(_ context.Context, batch []forwarder.Record) error {
	if h := watchedHangs.Load(); h != nil {
		h.wait()
	}
	watched.Lock()
	watched.writing++
	watched.most = max(watched.most, watched.writing)
	watched.Unlock()
	time.Sleep(5 * time.Millisecond)
	watched.Lock()
	defer watched.Unlock()
	watched.writing--
	for _, r := range batch {
		watched.sequences = append(watched.sequences, r.Sequence)
	}
	return nil
}

func TestTwoConfigurationsNeverDeliverAtOnce(t *testing.T) {
	watched.Lock()
	watched.most, watched.sequences = 0, nil
	watched.Unlock()
	r := newRig(t, ok)
	config := strings.Replace(rigCaddyfile, "store sqlite %STORE%", "store watched", 1)
	r.load(config, proxy)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if resp, err := oneCall.RoundTrip(r.request("POST", project, nil, "")); err == nil {
				_ = resp.Body.Close()
			}
		}
	})
	for i := range 15 {
		r.load(strings.Replace(config, "1MiB\n\t\t}", fmt.Sprintf("1MiB\n\t\t\tmax_wait %ds\n\t\t}", 1+i%3), 1), proxy)
		time.Sleep(10 * time.Millisecond)
	}
	close(done)
	wg.Wait()
	r.drained()
	watched.Lock()
	defer watched.Unlock()
	if watched.most != 1 {
		t.Errorf("%d wrote at once", watched.most)
	}
	for i, n := range watched.sequences {
		if n != uint64(i)+1 {
			t.Fatalf("sequence %d was delivered as number %d", n, i+1)
		}
	}
	t.Logf("%d entries over 16 configurations", len(watched.sequences))
}
