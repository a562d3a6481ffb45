package doctor

import (
	"context"
	"sync"
	"time"
)

// maxAsking bounds the services that are asked at the same time.
const maxAsking = 8

// Question is asked of somebody who may be down, slow or hostile.
type Question struct {
	Whom string
	Look func(context.Context) Diagnosis
}

// Together asks all, a few at a time, and keeps their order. One that does not come back takes
// no answer of another away.
func Together(ctx context.Context, questions []Question) []Diagnosis {
	list := make([]Diagnosis, len(questions))
	free := make(chan struct{}, maxAsking)
	var all sync.WaitGroup
	for i, q := range questions {
		all.Go(func() {
			select {
			case free <- struct{}{}:
				list[i] = q.one(ctx)
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

func (q Question) one(ctx context.Context) Diagnosis {
	said := make(chan Diagnosis, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				said <- NotKnown("%s: asking failed: %v", q.Whom, r).Mend("report this, please")
			}
		}()
		said <- q.Look(ctx)
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

func (q Question) late() Diagnosis {
	return NotKnown("%s: there was no answer in time", q.Whom).Mend("see what hangs, or give more time with --timeout")
}
