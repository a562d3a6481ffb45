package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/rig"
)

// reloader reloads the build while its lives last, often with a setting of
// the policy changed. Whatever is in force, a call is recorded.
type reloader struct {
	admin *rig.Admin
	text  string // the Caddyfile that every life starts with
	rnd   *rand.Rand
	n     int
	// took is how many nanoseconds the last one took.
	took atomic.Int64
}

func newReloader(site *rig.Site, seed uint64) (*reloader, error) {
	b, err := os.ReadFile(site.Caddyfile)
	if err != nil {
		return nil, fmt.Errorf("reading the Caddyfile: %w", err)
	}
	if _, err := (rig.Changes{}).Apply(string(b)); err != nil {
		return nil, fmt.Errorf("preparing the reloads (-reloads=false goes without): %w", err)
	}
	return &reloader{admin: rig.NewAdmin(site), text: string(b), rnd: rand.New(rand.NewPCG(seed, 0))}, nil
}

// reloads are those of one life.
type reloads struct {
	// began is received from when a reload begins.
	began chan struct{}
	// loading says that one is under way.
	loading atomic.Bool
	stop    context.CancelFunc

	ended chan struct{}
	// Readable when ended is closed. wrong are reloads that were not taken
	// although nothing was killed.
	taken int
	wrong []string
}

// start reloads every 100 to 400 ms. Without a reloader there are none.
func (r *reloader) start(ctx context.Context) *reloads {
	lasting, stop := context.WithCancel(ctx)
	l := &reloads{began: make(chan struct{}), ended: make(chan struct{}), stop: stop}
	if r == nil {
		close(l.ended)
		return l
	}
	go func() {
		defer close(l.ended)
		for {
			select {
			case <-lasting.Done():
				return
			case <-time.After(time.Duration(100+r.rnd.IntN(300)) * time.Millisecond):
			}
			select {
			case l.began <- struct{}{}:
			default: // nobody waits for it
			}
			l.loading.Store(true)
			// One that has begun goes on until it is taken or the build is gone.
			what, err := r.reload(ctx)
			l.loading.Store(false)
			switch {
			case lasting.Err() != nil: // its end is the kill's doing
			case err != nil:
				l.wrong = append(l.wrong, fmt.Sprintf("reload %d (%s) was not taken, although nothing was killed: %v", r.n, what, err))
			default:
				l.taken++
			}
		}
	}()
	return l
}

func (r *reloader) reload(ctx context.Context) (what string, err error) {
	r.n++
	what = "nothing changed"
	var changes rig.Changes
	if i := r.rnd.IntN(2 * len(changes)); i < len(changes) && rig.Settings[i].Policy {
		changes[i], what = r.n, rig.Settings[i].Name
	}
	text, err := changes.Apply(r.text)
	if err != nil {
		return what, err
	}
	began := time.Now()
	refusal, err := r.admin.Load(ctx, rig.TypeCaddyfile, []byte(text))
	if err == nil && refusal != "" {
		err = fmt.Errorf("it was refused: %s", refusal)
	}
	if err == nil {
		r.took.Store(int64(time.Since(began)))
	}
	return what, err
}

// end lets no further reload begin and says whether one is under way.
func (l *reloads) end() (loading bool) {
	defer l.stop()
	return l.loading.Load()
}

// report waits for the last reload, whose build is gone.
func (l *reloads) report(v *verdict) {
	<-l.ended
	v.Reloads += l.taken
	for _, w := range l.wrong {
		v.Note(&v.WrongReloads, "%s", w)
	}
	l.taken, l.wrong = 0, nil
}
