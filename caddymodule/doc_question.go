package caddymodule

import (
	"context"
	"sync"
	"time"
)

// maxAsking bounds the services that are asked at the same time.
const maxAsking = 8

// question is asked of somebody who may be down, slow or hostile.
type question struct {
	whom string
	look func(context.Context) diagnosis
}

// together asks all, a few at a time, and keeps their order. One that does not come back takes
// no answer of another away.
func together(ctx context.Context, questions []question) []diagnosis {
	list := make([]diagnosis, len(questions))
	free := make(chan struct{}, maxAsking)
	var all sync.WaitGroup
	for i, q := range questions {
		all.Go(func() {
			select {
			case free <- struct{}{}:
				list[i] = q.ask(ctx)
				<-free
			case <-ctx.Done():
				list[i] = q.late()
			}
		})
	}
	all.Wait()
	return list
}

// grace is what somebody gets who heeds the context and has something to say about its end.
const grace = 500 * time.Millisecond

func (q question) ask(ctx context.Context) diagnosis {
	said := make(chan diagnosis, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				said <- notKnown("%s: asking failed: %v", q.whom, r).mend("report this, please")
			}
		}()
		said <- q.look(ctx)
	}()
	select {
	case d := <-said:
		return d
	case <-ctx.Done():
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case d := <-said:
		return d
	case <-late.C:
		return q.late()
	}
}

func (q question) late() diagnosis {
	return notKnown("%s: there was no answer in time", q.whom).mend("see what hangs, or give more time with --timeout")
}
