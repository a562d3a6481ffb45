package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
)

const pageSize = 4096

// damages are what happens to files, by name and weight.
var damages = []struct {
	name   string
	weight int
	do     func(r *rand.Rand, b []byte, used int) (harmed []byte, at int)
}{
	{"bit", 35, func(r *rand.Rand, b []byte, used int) ([]byte, int) {
		at := r.IntN(used)
		b[at] ^= 1 << r.IntN(8)
		return b, at
	}},
	// What a page says about itself is a hundredth of it, so that a bit hits
	// it too seldom.
	{"bit of a page's header", 12, func(r *rand.Rand, b []byte, used int) ([]byte, int) {
		at := r.IntN((used+pageSize-1)/pageSize)*pageSize + r.IntN(48)
		if at < len(b) {
			b[at] ^= 1 << r.IntN(8)
		}
		return b, at
	}},
	{"zeroed page", 20, func(r *rand.Rand, b []byte, used int) ([]byte, int) {
		at := r.IntN(used) / pageSize * pageSize
		clear(b[at:min(at+pageSize, len(b))])
		return b, at
	}},
	{"truncation", 8, func(r *rand.Rand, b []byte, used int) ([]byte, int) {
		at := r.IntN(used)
		return b[:at], at
	}},
	{"pages swapped", 8, func(r *rand.Rand, b []byte, used int) ([]byte, int) {
		i, j := r.IntN(used)/pageSize*pageSize, r.IntN(used)/pageSize*pageSize
		x, y := page(b, i), page(b, j)
		n := min(len(x), len(y))
		was := bytes.Clone(x[:n])
		copy(x, y[:n])
		copy(y, was)
		return b, i
	}},
	// As when a write went to the wrong place, or an old one came back.
	{"page over another", 5, func(r *rand.Rand, b []byte, used int) ([]byte, int) {
		i, j := r.IntN(used)/pageSize*pageSize, r.IntN(used)/pageSize*pageSize
		copy(page(b, i), page(b, j))
		return b, i
	}},
	{"garbage", 12, func(r *rand.Rand, b []byte, used int) ([]byte, int) {
		at := r.IntN(used)
		for i := range b[at:min(at+1+r.IntN(3*pageSize), len(b))] {
			b[at+i] = byte(r.Uint32())
		}
		return b, at
	}},
}

func page(b []byte, at int) []byte { return b[at:min(at+pageSize, len(b))] }

// harm damages a file's content, which it owns. Of what used says is in use
// something is hit mostly; a tenth of all hits lie anywhere.
func harm(r *rand.Rand, b []byte, used int) (harmed []byte, what string) {
	used = min(used, len(b))
	if r.IntN(10) == 0 {
		used = len(b)
	}
	if used == 0 {
		return b, "nothing is left to harm"
	}
	total := 0
	for _, d := range damages {
		total += d.weight
	}
	n := r.IntN(total)
	for _, d := range damages {
		if n -= d.weight; n < 0 {
			was := len(b)
			b, at := d.do(r, b, used)
			return b, fmt.Sprintf("%s at %d of %d", d.name, at, was)
		}
	}
	panic("unreachable")
}

// overwrite changes a file in place, as damage does: whoever has it open sees
// it, and nothing but what was harmed changes for a moment.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(b)))
}
