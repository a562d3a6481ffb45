package main

import (
	"bytes"
	"fmt"
	"io"
)

// pattern is what large bodies are made of. Its length is prime, so that a
// block lost or sent twice shifts all that follows.
var pattern = func() []byte {
	b := make([]byte, 1<<20-3)
	state := uint32(1)
	for i := range b {
		state = state*1664525 + 1013904223
		b[i] = byte(state >> 24)
	}
	return b
}()

// pour writes n bytes of the pattern.
func pour(w io.Writer, n int64) error {
	for n > 0 {
		p := pattern[:min(n, int64(len(pattern)))]
		if _, err := w.Write(p); err != nil {
			return err
		}
		n -= int64(len(p))
	}
	return nil
}

// drain reads n bytes and compares them with the pattern.
func drain(r io.Reader, n int64) error {
	b := make([]byte, 128<<10)
	at := 0
	for done := int64(0); done < n; {
		k, err := r.Read(b[:min(int64(len(b)), n-done)])
		for p := b[:k]; len(p) > 0; {
			m := min(len(p), len(pattern)-at)
			if !bytes.Equal(p[:m], pattern[at:at+m]) {
				return fmt.Errorf("comparing a body: it differs from what was sent within 128 KiB of byte %d", done)
			}
			p, at = p[m:], (at+m)%len(pattern)
		}
		if done += int64(k); err != nil && done < n {
			return fmt.Errorf("comparing a body: it ended after %d of %d bytes: %w", done, n, err)
		}
	}
	return nil
}

// poured reads like what pour writes.
type poured struct{ at int }

func (p *poured) Read(b []byte) (int, error) {
	n := copy(b, pattern[p.at:])
	p.at = (p.at + n) % len(pattern)
	return n, nil
}
