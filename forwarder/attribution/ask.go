package attribution

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

const (
	// maxAsking bounds the questions that are with the services at once, and maxWaiting
	// those and the ones that wait for that. Beyond it a question is not asked.
	maxAsking  = 8
	maxWaiting = 1024
	// firstRetry is after which time a question is asked again that got no answer; it
	// doubles up to lastRetry.
	firstRetry = time.Second
	lastRetry  = 15 * time.Second
	// maxRetries bounds the questions that are remembered to have got no answer.
	maxRetries = 10_000
	// loopPause is for how long nothing is asked once a question has come back to us.
	loopPause = 10 * time.Minute
	// busyPause is after which time a question is tried again for which there was no room.
	busyPause = 100 * time.Millisecond
)

// key is what a question is about. An organization is asked for by its slug, or by its id
// if that is all there is.
type key struct {
	kind Kind
	name string
	byID bool
}

// question is one that is to be asked, or is being asked.
type question struct {
	key
	done chan struct{} // closed when it has ended
}

// retry is a question that got no answer, and when it may be asked again.
type retry struct {
	failures int
	next     time.Time
}

// health is whether a service answers.
type health struct {
	failures    int // since it last answered
	since       time.Time
	looped      bool // it was said that it leads to ourselves
	pausedUntil time.Time
}

func (h *health) isDown() bool { return h.failures > 0 }

func (s *settings) lookup(k Kind) *Lookup {
	if k == KindProject {
		return s.Projects
	}
	return s.Organizations
}

// asked is the table that has the answer to a question.
func (d *Directory) asked(k key) *table {
	switch {
	case k.kind == KindProject:
		return d.projects
	case k.byID:
		return d.ids
	}
	return d.slugs
}

// ask asks a question, or joins it if it is on its way. It is called with the lock held.
func (d *Directory) ask(k key) wait {
	if q := d.open[k]; q != nil {
		return wait{q.done, time.Hour}
	}
	now := time.Now()
	if d.closed {
		return wait{nil, busyPause}
	}
	if left := d.health[k.kind].pausedUntil.Sub(now); left > 0 {
		return wait{nil, left}
	}
	if left := d.retries[k].next.Sub(now); left > 0 {
		return wait{nil, left}
	}
	if len(d.open) >= maxWaiting {
		d.set.Observe(k.kind, ResultBusy, 0)
		return wait{nil, busyPause}
	}
	q := &question{key: k, done: make(chan struct{})}
	d.open[k] = q
	d.queue = append(d.queue, q)
	if d.workers < maxAsking {
		d.workers++
		d.work.Go(d.run)
	}
	return wait{q.done, time.Hour}
}

// run asks what is to be asked, until there is nothing more.
func (d *Directory) run() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.queue) > 0 && !d.closed {
		q := d.queue[0]
		d.queue = d.queue[1:]
		turn, s := d.limiter.reserve(time.Now()), d.set
		d.mu.Unlock()
		sent, a, took, err := d.one(q.key, turn, s)
		d.mu.Lock()
		d.answered(q, s, sent, a, took, err)
	}
	if d.closed {
		for _, q := range d.queue {
			d.end(q)
		}
		d.queue = nil
	}
	d.workers--
}

// one asks one question, when its turn has come.
func (d *Directory) one(k key, turn time.Duration, s *settings) (sent time.Time, a answer, took time.Duration, err error) {
	if turn > 0 {
		timer := time.NewTimer(turn)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-d.ctx.Done():
			return sent, a, 0, d.ctx.Err()
		}
	}
	l := s.lookup(k.kind)
	if l == nil { // there was one when the question was put
		return sent, a, 0, errAbsent
	}
	ctx, cancel := context.WithTimeout(d.ctx, s.Timeout)
	defer cancel()
	sent = time.Now()
	a, err = d.send(ctx, l, k.name)
	return sent, a, time.Since(sent), err
}

// answered takes what a service said. It is called with the lock held.
func (d *Directory) answered(q *question, s *settings, sent time.Time, a answer, took time.Duration, err error) {
	defer d.end(q)
	if d.ctx.Err() != nil || sent.IsZero() {
		return
	}
	at := sent.UnixMicro()
	h := d.health[q.kind]
	d.settleMoves()
	result := ResultFound
	switch {
	case err == nil:
		d.learn(q.key, a, at)
	case errors.Is(err, errAbsent):
		result = ResultAbsent
		d.asked(q.key).make(q.name).gone(at, s.ttl)
	default:
		s.Observe(q.kind, ResultFailed, took)
		d.failed(q.key, h, s, err)
		return
	}
	s.Observe(q.kind, result, took)
	d.dirty = true
	delete(d.retries, q.key)
	h.recovered(q.kind, s.Logger)
}

// failed notes that a question got no answer, and says so once.
func (d *Directory) failed(k key, h *health, s *settings, err error) {
	now := time.Now()
	r := d.retries[k]
	r.next = now.Add(min(firstRetry<<min(r.failures, 10), lastRetry))
	r.failures++
	if _, there := d.retries[k]; !there && len(d.retries) >= maxRetries {
		for other := range d.retries {
			delete(d.retries, other)
			break
		}
	}
	d.retries[k] = r
	l := s.lookup(k.kind)
	var pause *pauseError
	switch {
	case errors.Is(err, errLoop):
		h.pausedUntil = now.Add(loopPause)
		if !h.looped {
			h.looped = true
			s.Logger.Error("the lookup leads through this sidecar itself, so each question would bring the next; nothing is asked for 10 minutes: give it the API's own address, behind the sidecar",
				"kind", k.kind, "lookup", l.String())
		}
	case errors.As(err, &pause):
		h.pausedUntil = now.Add(pause.pause)
	}
	if h.failures++; h.failures > 1 {
		return
	}
	h.since = now
	if !errors.Is(err, errLoop) {
		s.Logger.Warn("asking whose calls are; until it succeeds, their entries wait for their organization or its plan, for a day at most",
			"kind", k.kind, "lookup", l.String(), "error", err)
	}
}

// recovered says once that a service answers again.
func (h *health) recovered(k Kind, log *slog.Logger) {
	if h.failures == 0 {
		return
	}
	log.Info("a lookup is answered again", "kind", k, "failures", h.failures, "after", time.Since(h.since).Round(time.Millisecond))
	*h = health{}
}

// end tells those who wait for a question that it has ended.
func (d *Directory) end(q *question) {
	delete(d.open, q.key)
	close(q.done)
}

// learn takes an answer. That of an organization is kept under each of its names.
func (d *Directory) learn(k key, a answer, sent int64) {
	ttl := d.set.ttl
	if k.kind == KindProject {
		d.projects.make(k.name).learn(answer{id: a.id, slug: a.slug}, sent, ttl)
		return
	}
	// It is called as it was asked for, too.
	if k.byID && a.id == "" {
		a.id = k.name
	} else if !k.byID && a.slug == "" {
		a.slug = k.name
	}
	slugs, ids := []string{a.slug}, []string{a.id}
	if !k.byID && k.name != a.slug {
		slugs = append(slugs, k.name)
	}
	if k.byID && k.name != a.id {
		ids = append(ids, k.name)
	}
	for _, slug := range slugs {
		if slug == "" {
			continue
		}
		was, changed := d.slugs.make(slug).learn(a, sent, ttl)
		if changed && a.id == "" && was.ID == "" {
			d.changed("", slug, was, a, sent)
		}
	}
	for _, id := range ids {
		if id == "" {
			continue
		}
		if was, changed := d.ids.make(id).learn(a, sent, ttl); changed {
			d.changed(id, a.slug, was, a, sent)
			// What is stored may have a name that it had before, or is also called by.
			for _, slug := range slugs[1:] {
				d.changed(id, slug, was, a, sent)
			}
			if was.Slug != "" && !slices.Contains(slugs, was.Slug) {
				d.changed(id, was.Slug, was, a, sent)
			}
		}
	}
}
