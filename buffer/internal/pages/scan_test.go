package pages

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/caddy-audit-log/caddy-audit-log/internal/trials"
)

var testMagic = [4]byte{'A', 'U', 'D', '1'}

type found struct {
	offset int64
	b      string
}

// scanned is what Scan must find, done the plain way: each readable stretch on
// its own.
func scanned(file []byte, bad func(at int64) bool, most int, skip func(offset int64) int) (all []found, lost int64) {
	readable := make([]bool, len(file))
	for at := range file {
		readable[at] = true
	}
	for at := 0; at < len(file); at += 512 {
		if bad == nil || !bad(int64(at)) {
			continue
		}
		// From the place that fails to the next step.
		for i := at; i < min(len(file), at-at%scanStep+scanStep); i++ {
			if readable[i] {
				lost++
			}
			readable[i] = false
		}
	}
	limit := make([]int, len(file)+1) // where what is readable from there ends
	for at := len(file); at >= 0; at-- {
		limit[at] = at
		if at < len(file) && readable[at] {
			limit[at] = limit[at+1]
		}
	}
	for at := 0; ; {
		hit := bytes.Index(file[at:], testMagic[:])
		if hit < 0 {
			break
		}
		at += hit
		end := min(limit[at], at+max(most, 4))
		if end-at < 4 {
			at++
			continue
		}
		all = append(all, found{int64(at), string(file[at:end])})
		at += min(max(1, skip(int64(at))), len(file)-at)
	}
	return all, lost
}

func checkScan(t *testing.T, chunk int, r *faultyReader, most int, skip func(offset int64) int) {
	t.Helper()
	var got []found
	err := scanIn(chunk, r, int64(len(r.b)), testMagic, most, func(offset int64, b []byte) int {
		got = append(got, found{offset, string(b)})
		return skip(offset)
	})
	want, lost := scanned(r.b, r.bad, most, skip)
	if !slices.Equal(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("found %d: at %d with %d bytes, want at %d with %d bytes", i, got[i].offset, len(got[i].b), want[i].offset, len(want[i].b))
			}
		}
		t.Fatalf("found %d, want %d", len(got), len(want))
	}
	if lost == 0 && err != nil {
		t.Fatal(err)
	}
	// What a visit goes over need not be read.
	if skip(0) <= 4 && lost > 0 && (!errors.Is(err, ErrDamaged) || !errors.Is(err, syscall.EIO)) {
		t.Fatalf("%d bytes cannot be read: %v", lost, err)
	}
}

func TestScan(t *testing.T) {
	for round := range trials.Rounds(60, 300) {
		r := rand.New(rand.NewPCG(uint64(round), 4))
		chunk := []int{1, 7, 512, 4096, 10000, 64 << 10}[round%6]
		file := make([]byte, r.IntN(6*chunk+3000))
		for range len(file) / (20 + r.IntN(2000)) {
			copy(file[r.IntN(len(file)):], testMagic[:])
		}
		// Around the ends of chunks.
		for at := chunk; at < len(file); at += chunk {
			copy(file[max(0, at-r.IntN(6)):], testMagic[:])
		}
		reader := &faultyReader{b: file, none: round%3 == 0}
		if round%2 == 1 {
			// To the end of a step, so that it is the same for one who begins
			// within. A reader that does not say what it read before it failed
			// loses the whole step.
			bad := map[int64]bool{}
			for range r.IntN(6) {
				at := int64(r.IntN(len(file)/512 + 1))
				if reader.none {
					at -= at % 8
				}
				for ; ; at++ {
					bad[at] = true
					if at%8 == 7 {
						break
					}
				}
			}
			reader.bad = func(at int64) bool { return bad[at/512] }
		}
		most := []int{0, 4, 37, 5000}[r.IntN(4)]
		skip := []int{0, 4, 41, 9000, math.MaxInt}[r.IntN(5)]
		checkScan(t, chunk, reader, most, func(int64) int { return skip })
	}
}

// TestScanWhole scans with the chunks of the product: records of up to the
// buffer's largest, over the ends of chunks.
func TestScanWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	file := make([]byte, 9<<20+123)
	var want []int64
	for at := 17; at < len(file)-4; {
		copy(file[at:], testMagic[:])
		want = append(want, int64(at))
		at += []int{4, 100, 600, 1 << 20}[r.IntN(4)]
	}
	for _, at := range []int{scanChunk - 2, 2 * scanChunk, 3*scanChunk - 3, len(file) - 4} {
		copy(file[at:], testMagic[:])
		want = append(want, int64(at))
	}
	slices.Sort(want)
	var got []int64
	err := Scan(bytes.NewReader(file), int64(len(file)), testMagic, 1<<20+37, func(offset int64, b []byte) int {
		got = append(got, offset)
		if rest := int64(len(file)) - offset; int64(len(b)) != min(rest, 1<<20+37) || !bytes.Equal(b, file[offset:offset+int64(len(b))]) {
			t.Fatalf("at %d: %d bytes", offset, len(b))
		}
		return 1
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, slices.Compact(want)) {
		t.Errorf("%d found, %d are there", len(got), len(want))
	}
	err = Scan(bytes.NewReader(file[:5000]), 9000, testMagic, 4, func(int64, []byte) int { return 0 })
	if !errors.Is(err, ErrDamaged) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that ends before its size: %v", err)
	}
	if err := Scan(bytes.NewReader(nil), 0, testMagic, 4, nil); err != nil {
		t.Error(err)
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("..AUD1....AUD1AUD1"), uint16(7), uint16(9), uint16(4), uint64(0))
	f.Add(bytes.Repeat([]byte("AUD1AU"), 3000), uint16(1000), uint16(64), uint16(1), uint64(2))
	f.Add(bytes.Repeat([]byte("AUDAUD1 "), 5000), uint16(1), uint16(4), uint16(0), uint64(5))
	f.Fuzz(func(t *testing.T, file []byte, chunk, most, skip uint16, bad uint64) {
		reader := &faultyReader{b: file}
		if bad != 0 {
			reader.bad = func(at int64) bool { return at/scanStep < 64 && bad>>(at/scanStep)&1 == 1 }
		}
		checkScan(t, 1+int(chunk), reader, int(most), func(int64) int { return int(skip) })
	})
}
