package syslogstore

import (
	"bytes"
	"strconv"
	"sync"
	"time"
)

// kept is what was written last, in order, so that it can be written again. The zero
// value keeps nothing until its span is set.
type kept struct {
	span  time.Duration // how long; not positive is not at all
	parts []part
	size  int // the memory that the parts take, in bytes
	// owed says that the connection by which the parts went has broken, so that they have
	// to be written again on the next one.
	owed bool
}

// part is a batch that was written.
type part struct {
	// at is when it was written last.
	at time.Time
	// frames are its messages. Nobody changes them.
	frames      []byte
	entries     int
	first, last uint64 // sequences
}

func (k *kept) empty() bool { return len(k.parts) == 0 }

// add keeps a part, and lets the oldest go beyond maxKept. The connection lives.
func (k *kept) add(p part) {
	if k.span <= 0 {
		return
	}
	k.parts = append(k.parts, p)
	k.size += cap(p.frames)
	n := 0
	for over := k.size - maxKept; over > 0 && n < len(k.parts)-1; n++ {
		over -= cap(k.parts[n].frames)
	}
	k.drop(n)
}

// forget lets go of what had been written for long enough at a time at which the
// connection still lived. What is owed is not forgotten.
func (k *kept) forget(alive time.Time) {
	n := 0
	for !k.owed && n < len(k.parts) && alive.Sub(k.parts[n].at) > k.span {
		n++
	}
	k.drop(n)
}

func (k *kept) drop(n int) {
	for _, p := range k.parts[:n] {
		k.size -= cap(p.frames)
	}
	clear(k.parts[:n]) // the array stays
	k.parts = k.parts[n:]
}

// bounds are the lowest and highest sequence. There is a part.
func (k *kept) bounds() (first, last uint64) {
	first, last = k.parts[0].first, k.parts[0].last
	for _, p := range k.parts {
		first, last = min(first, p.first), max(last, p.last)
	}
	return first, last
}

// without takes out messages that are larger than the receiver takes, and says how many.
// They were written when the configuration did not know of that.
func (k *kept) without(maxMessage int) (out int) {
	if maxMessage < 0 {
		return 0
	}
	for i := range k.parts {
		p := &k.parts[i]
		var rest []byte
		before := p.entries
		for frames := p.frames; len(frames) > 0; {
			count, message, _ := bytes.Cut(frames, []byte{' '})
			n, err := strconv.Atoi(string(count))
			if err != nil || n > len(message) {
				break // cannot be: they are our own
			}
			if n > maxMessage {
				p.entries--
			} else {
				rest = append(rest, frames[:len(count)+1+n]...)
			}
			frames = message[n:]
		}
		if p.entries < before {
			k.size -= cap(p.frames) - cap(rest)
			p.frames = rest
			out += before - p.entries
		}
	}
	return out
}

// legacyTime is how long what a store leaves waits for the next one. At a reload that is
// opened as soon as there is an entry for it, and a heartbeat comes each minute.
const legacyTime = 10 * time.Minute

// legacies have what the stores of this process have left behind at their end, by the
// receiver's location.
var legacies = inheritance{of: map[string]*kept{}}

// inheritance may be used by several goroutines at a time.
type inheritance struct {
	mu sync.Mutex
	of map[string]*kept
}

// leave keeps what a store has for the next that writes to the same receiver, behind what
// there is.
func (l *inheritance) leave(location string, k kept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if had := l.of[location]; had != nil {
		k.parts = append(had.parts, k.parts...)
		k.size += had.size
		k.owed = k.owed || had.owed
	}
	l.of[location] = &k
	time.AfterFunc(legacyTime, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.of[location] == &k {
			delete(l.of, location)
		}
	})
}

func (l *inheritance) take(location string) kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.of[location]
	if k == nil {
		return kept{}
	}
	delete(l.of, location)
	return *k
}
