package pages

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/caddy-audit-log/caddy-audit-log/internal/trials"
)

// faultyReader fails where bad says, and counts what is read.
type faultyReader struct {
	b    []byte
	bad  func(at int64) bool // by 512 bytes
	none bool                // a read that fails gives nothing of what lies before
	read int64
}

func (r *faultyReader) ReadAt(p []byte, at int64) (int, error) {
	r.read += int64(len(p))
	n, err := bytes.NewReader(r.b).ReadAt(p, at)
	if r.bad == nil {
		return n, err
	}
	for o := at &^ 511; o < at+int64(n); o += 512 {
		if r.bad(o) {
			if r.none {
				return 0, syscall.EIO
			}
			return int(max(0, o-at)), syscall.EIO
		}
	}
	return n, err
}

// placed is a pair and the pages that must be whole for it to be found.
type placed struct {
	pair
	pages []uint64
	root  int // how many of them lead to the bucket, its first page included
}

// place finds out from the undamaged file which pages each pair hangs on.
func place(t testing.TB, file []byte) (all []placed) {
	t.Helper()
	f := open(t, file)
	var way [][]uint64
	f.entered = func(depth int, id uint64, n int) {
		way = way[:depth]
		var ids []uint64
		for i := range n {
			ids = append(ids, id+uint64(i))
		}
		way = append(way, ids)
	}
	var names []string
	for _, p := range cursorPairs(t, file) {
		if !slices.Contains(names, p.bucket) {
			names = append(names, p.bucket)
		}
	}
	for _, name := range names {
		rootPages := 0
		way = nil
		f.walkRoot(t, []byte(name))
		for _, ids := range way {
			rootPages += len(ids)
		}
		if err := f.Each([]byte(name), nil, func(k, v []byte) bool {
			all = append(all, placed{pair{name, string(k), string(v)}, slices.Concat(way...), rootPages + 1})
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// walkRoot goes the way to a bucket and no further.
func (f *File) walkRoot(t testing.TB, bucket []byte) {
	w := &walk{file: f}
	w.begin(bucket)
	w.push(f.root, nil, nil, nil)
	w.run(0, func(_, _ []byte, _ bool) bool { return false })
	if err := w.err(bucket); err != nil {
		t.Fatal(err)
	}
}

// held reads a damaged file and checks what must hold whatever the damage is:
// keys ascend, a visit's end is an end, no more is read than is bounded, and
// an error is ErrDamaged.
func held(t testing.TB, r *faultyReader, bucket string, from []byte) (got []pair, err error) {
	t.Helper()
	r.read = 0
	f, err := Open(r, int64(len(r.b)))
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("opening: %v", err)
		}
		return nil, err
	}
	err = f.Each([]byte(bucket), from, func(k, v []byte) bool {
		p := pair{bucket, string(k), string(v)}
		if len(got) > 0 && got[len(got)-1].k >= p.k || p.k < string(from) || p.k == "" {
			t.Fatalf("key %x from %x after %d", p.k, from, len(got))
		}
		got = append(got, p)
		return true
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		t.Fatalf("bucket %q: %v", bucket, err)
	}
	if bound := 2*int64(len(r.b)) + maxLeaf + 1<<12; r.read > bound {
		t.Fatalf("%d bytes were read of a file of %d", r.read, len(r.b))
	}
	return got, err
}

// harms are what happens to files. Each changes pages from the third on and
// says which.
var harms = map[string]func(r *rand.Rand, file []byte, pageSize int, branches []uint64) (harmed []byte, ids []uint64){
	"nothing": func(_ *rand.Rand, file []byte, _ int, _ []uint64) ([]byte, []uint64) { return file, nil },
	"flips": func(r *rand.Rand, file []byte, pageSize int, _ []uint64) ([]byte, []uint64) {
		var ids []uint64
		for range 1 + r.IntN(20) {
			at := 2*pageSize + r.IntN(len(file)-2*pageSize)
			file[at] ^= 1 << r.IntN(8)
			ids = append(ids, uint64(at/pageSize))
		}
		return file, ids
	},
	"flips in headers and elements": func(r *rand.Rand, file []byte, pageSize int, _ []uint64) ([]byte, []uint64) {
		var ids []uint64
		for range 1 + r.IntN(10) {
			id := 2 + r.IntN(len(file)/pageSize-2)
			file[id*pageSize+r.IntN(headerSize+3*elementSize)] ^= 1 << r.IntN(8)
			ids = append(ids, uint64(id))
		}
		return file, ids
	},
	"truncation": func(r *rand.Rand, file []byte, pageSize int, _ []uint64) ([]byte, []uint64) {
		cut := 2*pageSize + r.IntN(len(file)-2*pageSize)
		var ids []uint64
		for id := cut / pageSize; id <= len(file)/pageSize; id++ {
			ids = append(ids, uint64(id))
		}
		return file[:cut], ids
	},
	"zeroes": func(r *rand.Rand, file []byte, pageSize int, _ []uint64) ([]byte, []uint64) {
		var ids []uint64
		for range 1 + r.IntN(4) {
			at := 2*pageSize + r.IntN(len(file)-2*pageSize)
			end := min(len(file), at+1+r.IntN(4*pageSize))
			clear(file[at:end])
			for id := at / pageSize; id <= (end-1)/pageSize; id++ {
				ids = append(ids, uint64(id))
			}
		}
		return file, ids
	},
	"noise": func(r *rand.Rand, file []byte, pageSize int, _ []uint64) ([]byte, []uint64) {
		id := 2 + r.IntN(len(file)/pageSize-2)
		for at := id*pageSize + 8*r.IntN(3); at < (id+1)*pageSize; at += 8 {
			copy(file[at:], bigEndian(r.Uint64()>>r.IntN(64)))
		}
		return file, []uint64{uint64(id)}
	},
	"pages swapped": func(r *rand.Rand, file []byte, pageSize int, _ []uint64) ([]byte, []uint64) {
		a, b := 2+r.IntN(len(file)/pageSize-2), 2+r.IntN(len(file)/pageSize-2)
		was := bytes.Clone(file)
		copy(file[a*pageSize:], was[b*pageSize:(b+1)*pageSize])
		copy(file[b*pageSize:], was[a*pageSize:(a+1)*pageSize])
		return file, []uint64{uint64(a), uint64(b)}
	},
	"page written elsewhere as its own": func(r *rand.Rand, file []byte, pageSize int, _ []uint64) ([]byte, []uint64) {
		a, b := 2+r.IntN(len(file)/pageSize-2), 2+r.IntN(len(file)/pageSize-2)
		copy(file[a*pageSize:], file[b*pageSize:(b+1)*pageSize])
		order.PutUint64(file[a*pageSize:], uint64(a))
		return file, []uint64{uint64(a)}
	},
	"wrong overflow": func(r *rand.Rand, file []byte, pageSize int, _ []uint64) ([]byte, []uint64) {
		var ids []uint64
		for range 1 + r.IntN(10) {
			id := 2 + r.IntN(len(file)/pageSize-2)
			order.PutUint32(file[id*pageSize+12:], uint32(r.Uint64()>>(32+r.IntN(32))))
			ids = append(ids, uint64(id))
		}
		return file, ids
	},
	"branches that point to themselves": func(_ *rand.Rand, file []byte, pageSize int, branches []uint64) ([]byte, []uint64) {
		for _, id := range branches {
			b := file[int(id)*pageSize:]
			for i := range int(order.Uint16(b[10:])) {
				order.PutUint64(b[headerSize+elementSize*i+8:], id)
			}
		}
		return file, branches
	},
	"branches that point anywhere": func(r *rand.Rand, file []byte, pageSize int, branches []uint64) ([]byte, []uint64) {
		branches = branches[r.IntN(len(branches)):]
		branches = branches[:1+r.IntN(len(branches))]
		for _, id := range branches {
			b := file[int(id)*pageSize:]
			for i := range int(order.Uint16(b[10:])) {
				if r.IntN(3) == 0 {
					order.PutUint64(b[headerSize+elementSize*i+8:], r.Uint64N(uint64(len(file)/pageSize+3)))
				}
			}
		}
		return file, branches
	},
	"branch that points to one page": func(r *rand.Rand, file []byte, pageSize int, branches []uint64) ([]byte, []uint64) {
		id := branches[r.IntN(len(branches))]
		b := file[int(id)*pageSize:]
		n := int(order.Uint16(b[10:]))
		child := order.Uint64(b[headerSize+elementSize*r.IntN(n)+8:])
		for i := range n {
			order.PutUint64(b[headerSize+elementSize*i+8:], child)
		}
		return file, []uint64{id}
	},
}

// TestDamageCostsNoMoreThanItHit harms files in every way and checks that
// every pair is still found whose pages, from the root on, were left alone, and
// that what is missing is said to be.
func TestDamageCostsNoMoreThanItHit(t *testing.T) {
	rounds := trials.Rounds(6, 40)
	for seed, pageSize := range []int{4096, 1024, 512} {
		r := rand.New(rand.NewPCG(uint64(seed), 2))
		whole := randomFile(t, r, pageSize, 16, 300<<10, []int{70, 30, 20}[seed])
		whole = whole[:open(t, whole).Used()]
		all := place(t, whole)
		byBucket := map[string][]placed{}
		var branches []uint64
		for _, p := range all {
			byBucket[p.bucket] = append(byBucket[p.bucket], p)
			for _, id := range p.pages {
				// An overflow page may look like a branch; harming it is as good.
				if order.Uint16(whole[int(id)*pageSize+8:]) == flagBranch && !slices.Contains(branches, id) && order.Uint64(whole[int(id)*pageSize:]) == id {
					branches = append(branches, id)
				}
			}
		}
		if len(branches) < 3 || len(all) < 500 {
			t.Fatalf("a file with %d branches and %d pairs shows nothing", len(branches), len(all))
		}
		for i, name := range slices.Sorted(maps.Keys(harms)) {
			harm, r := harms[name], rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			t.Run(fmt.Sprintf("%s, pages of %d", name, pageSize), func(t *testing.T) {
				lost := 0
				for range rounds {
					file, ids := harm(r, bytes.Clone(whole), pageSize, slices.Clone(branches))
					lost += checkLosses(t, &faultyReader{b: file}, byBucket, ids)
				}
				// What is hit by chance may be free pages; branches are not.
				if sure := strings.HasPrefix(name, "branches that point to th"); sure && lost == 0 || name == "nothing" && lost > 0 {
					t.Errorf("%d pairs were lost in %d rounds", lost, rounds)
				}
			})
		}
		t.Run(fmt.Sprintf("read errors, pages of %d", pageSize), func(t *testing.T) {
			for round := range rounds {
				var ids []uint64
				for range 1 + r.IntN(6) {
					ids = append(ids, 2+r.Uint64N(uint64(len(whole)/pageSize-2)))
				}
				file := &faultyReader{b: whole, none: round%2 == 0, bad: func(at int64) bool { return slices.Contains(ids, uint64(at)/uint64(pageSize)) }}
				if checkLosses(t, file, byBucket, ids) == 0 {
					continue
				}
				told := false
				for bucket := range byBucket {
					_, err := held(t, file, bucket, nil)
					told = told || errors.Is(err, syscall.EIO)
				}
				if !told {
					t.Fatalf("pages %v could not be read, and no error is EIO", ids)
				}
			}
		})
	}
}

// checkLosses returns how many pairs are missing.
func checkLosses(t *testing.T, r *faultyReader, byBucket map[string][]placed, harmed []uint64) (lost int) {
	t.Helper()
	hit := func(ids []uint64) bool {
		return slices.ContainsFunc(ids, func(id uint64) bool { return slices.Contains(harmed, id) })
	}
	for bucket, want := range byBucket {
		got, err := held(t, r, bucket, nil)
		at := map[string]string{}
		for _, p := range got {
			at[p.k] = p.v
		}
		missing := 0
		for _, p := range want {
			v, ok := at[p.k]
			if !ok {
				missing++
			}
			if (!ok || v != p.v) && !hit(p.pages) {
				t.Fatalf("key %x of bucket %q hangs on pages %v; harmed were %v; it is there: %v; error: %v", p.k, bucket, p.pages, harmed, ok, err)
			}
		}
		lost += missing
		// Another page in the place of a bucket's first one may be of a like
		// bucket: no page says whose it is. Everywhere else a loss shows, since
		// keys have their range.
		if len(got) < len(want) && err == nil && !hit(want[0].pages[:min(want[0].root, len(want[0].pages))]) {
			t.Fatalf("%d of %d pairs of bucket %q, and no error; harmed were %v", len(got), len(want), bucket, harmed)
		}
		if len(harmed) == 0 && err != nil {
			t.Fatal(err)
		}
		// A part is what lies in the whole from there on.
		from := want[len(want)/2].k
		part, _ := held(t, r, bucket, []byte(from))
		got = slices.DeleteFunc(got, func(p pair) bool { return p.k < from })
		if !slices.Equal(got, part) {
			t.Fatalf("%d pairs of bucket %q from %x, %d when all are read", len(part), bucket, from, len(got))
		}
	}
	return lost
}

// sealMeta makes the checksum of the meta page at an offset right.
func sealMeta(file []byte, at int) {
	if len(file) < at+headerSize+metaSize {
		return
	}
	m := file[at+headerSize:]
	sum := fnv.New64a()
	sum.Write(m[:56])
	order.PutUint64(m[56:], sum.Sum64())
}

// TestMetaDamaged checks that a damaged meta page costs at most the newest
// commit, as with bbolt, whatever the page size.
func TestMetaDamaged(t *testing.T) {
	for _, pageSize := range []int{512, 1024, 4096, 8192, 64 << 10} {
		for commits := 3; commits < 5; commits++ { // the newest is in either page
			r := rand.New(rand.NewPCG(uint64(pageSize), uint64(commits)))
			whole := randomFile(t, r, pageSize, commits, 2000, 0)
			for damaged := range 2 {
				for _, how := range []string{"flip", "zeroes", "unreadable"} {
					t.Run(fmt.Sprintf("page %d of %d bytes after %d commits: %s", damaged, pageSize, commits, how), func(t *testing.T) {
						file := bytes.Clone(whole)
						at := damaged*pageSize + headerSize
						file[at+r.IntN(metaSize)] ^= 1 << r.IntN(8)
						if how == "zeroes" {
							clear(file[damaged*pageSize : (damaged+1)*pageSize])
						}
						reader := &faultyReader{b: file}
						if how == "unreadable" {
							reader.bad = func(o int64) bool { return o/int64(pageSize) == int64(damaged) }
						}
						f, err := Open(reader, int64(len(file)))
						if err != nil {
							t.Fatal(err)
						}
						if !f.MetaDamaged() || f.PageSize() != pageSize {
							t.Errorf("meta damaged %v, page size %d", f.MetaDamaged(), f.PageSize())
						}
						if pageSize < 1024 && damaged == 0 {
							return // bbolt does not find the other one
						}
						var got []pair
						for _, bucket := range []string{"append", "emptied", "empty", "inline", "random", "state"} {
							ps, err := each(f, bucket, nil, 0)
							if err != nil {
								t.Fatal(err)
							}
							got = append(got, ps...)
						}
						diff(t, "all", got, cursorPairs(t, file))
					})
				}
			}
		}
	}
	t.Run("both", func(t *testing.T) {
		file := randomFile(t, rand.New(rand.NewPCG(1, 1)), 4096, 3, 2000, 0)
		file[headerSize+20]++
		file[4096+headerSize+20]++
		if _, err := Open(bytes.NewReader(file), int64(len(file))); !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		bad := &faultyReader{b: file, bad: func(at int64) bool { return at < 8192 }}
		if _, err := Open(bad, int64(len(file))); !errors.Is(err, ErrDamaged) || !errors.Is(err, syscall.EIO) {
			t.Error(err)
		}
	})
	t.Run("short files", func(t *testing.T) {
		file := randomFile(t, rand.New(rand.NewPCG(1, 1)), 4096, 3, 2000, 0)
		for _, n := range []int{0, 1, 15, 79, 80, 4095, 4096, 4175, 4176, 8192, 8193, 3 * 4096} {
			f, err := Open(bytes.NewReader(file[:n]), int64(n))
			if n < 80 {
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("%d bytes: %v", n, err)
				}
				continue
			}
			if err != nil || f.MetaDamaged() != (n < 4176) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if _, err := each(f, "append", nil, 0); !errors.Is(err, ErrDamaged) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	})
	t.Run("size above what there is", func(t *testing.T) {
		file := randomFile(t, rand.New(rand.NewPCG(1, 1)), 4096, 8, 2000, 0)
		f, err := Open(bytes.NewReader(file[:3*4096]), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := each(f, "append", nil, 0); !errors.Is(err, ErrDamaged) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}

// handmade is a file made page by page, to be as hostile as can be.
type handmade struct{ b []byte }

func newHandmade(pages int) *handmade {
	h := &handmade{make([]byte, pages*4096)}
	for i := range 2 {
		m := h.b[i*4096+headerSize:]
		order.PutUint32(m, magic)
		order.PutUint32(m[4:], version)
		order.PutUint32(m[8:], 4096)
		order.PutUint64(m[16:], 2)
		order.PutUint64(m[40:], uint64(pages))
		order.PutUint64(m[48:], uint64(i))
		sealMeta(h.b, i*4096)
	}
	header := make([]byte, bucketSize)
	order.PutUint64(header, 3)
	h.page(2, flagLeaf, flagBucket, []pair{{k: "e", v: string(header)}}, nil)
	return h
}

// page writes a page whose overflow is right.
func (h *handmade) page(id, flags int, elementFlags uint32, items []pair, children []uint64) {
	b := h.b[id*4096:]
	at := headerSize + elementSize*len(items)
	for i, p := range items {
		o := headerSize + elementSize*i
		if flags == flagLeaf {
			order.PutUint32(b[o:], elementFlags)
			order.PutUint32(b[o+4:], uint32(at-o))
			order.PutUint32(b[o+8:], uint32(len(p.k)))
			order.PutUint32(b[o+12:], uint32(len(p.v)))
		} else {
			order.PutUint32(b[o:], uint32(at-o))
			order.PutUint32(b[o+4:], uint32(len(p.k)))
			order.PutUint64(b[o+8:], children[i])
		}
		at += copy(b[at:], p.k)
		at += copy(b[at:], p.v)
	}
	order.PutUint64(b, uint64(id))
	order.PutUint16(b[8:], uint16(flags))
	order.PutUint16(b[10:], uint16(len(items)))
	order.PutUint32(b[12:], uint32((at-1)/4096))
}

func keys(n, from int) (ks []pair) {
	for i := range n {
		ks = append(ks, pair{k: string(bigEndian(uint64(from + i)))})
	}
	return ks
}

// TestHostileFiles reads files that are right in each page and wrong as a
// whole. What must hold is in held: an end, in bounded reads.
func TestHostileFiles(t *testing.T) {
	same := func(n int, id uint64) []uint64 { return slices.Repeat([]uint64{id}, n) }
	read := func(h *handmade, want int) {
		t.Helper()
		got, err := held(t, &faultyReader{b: h.b}, "e", nil)
		if err == nil || len(got) != want {
			t.Errorf("%d pairs, %v", len(got), err)
		}
	}
	t.Run("every branch names the next one a hundred times", func(t *testing.T) {
		h := newHandmade(40)
		for id := 3; id < 25; id++ {
			h.page(id, flagBranch, 0, keys(100, 0), same(100, uint64(id+1)))
		}
		h.page(25, flagLeaf, 0, keys(100, 0), nil)
		read(h, 0)
	})
	t.Run("the same with one key each, down to a leaf", func(t *testing.T) {
		h := newHandmade(60)
		for id := 3; id < 50; id++ {
			h.page(id, flagBranch, 0, keys(1, 0), []uint64{uint64(id + 1)})
		}
		h.page(50, flagLeaf, 0, keys(100, 0), nil)
		read(h, 0) // too deep
	})
	t.Run("a loop over three pages", func(t *testing.T) {
		h := newHandmade(10)
		h.page(3, flagBranch, 0, keys(2, 0), []uint64{4, 6})
		h.page(4, flagBranch, 0, keys(1, 0), []uint64{5})
		h.page(5, flagBranch, 0, keys(1, 0), []uint64{3})
		h.page(6, flagLeaf, 0, keys(7, 1), nil)
		read(h, 7)
	})
	t.Run("a loop to the pages above the bucket", func(t *testing.T) {
		h := newHandmade(10)
		h.page(3, flagBranch, 0, []pair{{k: "a"}, {k: "f"}}, []uint64{2, 4})
		h.page(4, flagLeaf, 0, []pair{{k: "f"}, {k: "g"}}, nil)
		read(h, 2)
	})
	t.Run("large leaves that lie in each other", func(t *testing.T) {
		// Each page begins a leaf of 8 MiB, whose keys the next begin in.
		h := newHandmade(4096)
		for id := 4; id < 2000; id++ {
			h.page(id, flagLeaf, 0, keys(1, id), nil)
			order.PutUint32(h.b[id*4096+headerSize+12:], 8<<20-100)
			order.PutUint32(h.b[id*4096+12:], 2047)
		}
		var ids []uint64
		for id := range uint64(100) {
			ids = append(ids, 4+id)
		}
		h.page(3, flagBranch, 0, keys(100, 4), ids)
		got, err := held(t, &faultyReader{b: h.b}, "e", nil)
		if !errors.Is(err, ErrDamaged) || len(got) > 6 {
			t.Errorf("%d pairs, %v", len(got), err)
		}
	})
	t.Run("a leaf that is nothing but elements", func(t *testing.T) {
		h := newHandmade(300)
		h.page(3, flagLeaf, 0, keys(65535, 1), nil)
		got, err := held(t, &faultyReader{b: h.b[:300*4096]}, "e", nil)
		if err == nil || len(got) != 0 {
			t.Errorf("%d pairs, %v", len(got), err)
		}
	})
	t.Run("the bucket's header", func(t *testing.T) {
		for _, v := range []string{"", "x", strings.Repeat("\x00", 15), strings.Repeat("\x00", 16), strings.Repeat("\x00", 40), strings.Repeat("\xff", 16), strings.Repeat("\x01", 17)} {
			h := newHandmade(10)
			h.page(2, flagLeaf, flagBucket, []pair{{k: "e", v: v}}, nil)
			read(h, 0)
		}
	})
	t.Run("a high-water mark that is too high", func(t *testing.T) {
		h := newHandmade(10)
		for at := range 2 {
			order.PutUint64(h.b[at*4096+headerSize+40:], math.MaxUint64)
			sealMeta(h.b, at*4096)
		}
		h.page(3, flagLeaf, 0, keys(7, 1), nil)
		f := open(t, h.b)
		got, err := each(f, "e", nil, 0)
		if err != nil || len(got) != 7 || f.Used() != math.MaxInt64 {
			t.Error(len(got), err, f.Used())
		}
	})
}

// TestEachFieldCounts changes one field of one page at a time.
func TestEachFieldCounts(t *testing.T) {
	const at = 5 * 4096
	element := at + headerSize + elementSize // the second
	u16, u32 := order.PutUint16, order.PutUint32
	for name, change := range map[string]func(b []byte){
		"another id":                   func(b []byte) { order.PutUint64(b[at:], 6) },
		"no flags":                     func(b []byte) { u16(b[at+8:], 0) },
		"two flags":                    func(b []byte) { u16(b[at+8:], flagLeaf|flagBranch) },
		"a branch":                     func(b []byte) { u16(b[at+8:], flagBranch) },
		"a free page":                  func(b []byte) { u16(b[at+8:], 0x10) },
		"one element less":             func(b []byte) { u16(b[at+10:], 2) },
		"one element more":             func(b []byte) { u16(b[at+10:], 4) },
		"no element":                   func(b []byte) { u16(b[at+10:], 0) },
		"as many elements as can be":   func(b []byte) { u16(b[at+10:], 0xffff) },
		"an overflow":                  func(b []byte) { u32(b[at+12:], 1) },
		"an overflow beyond the file":  func(b []byte) { u32(b[at+12:], 0xffffffff) },
		"an element's flags":           func(b []byte) { u32(b[element:], 2) },
		"a key in the next value":      func(b []byte) { u32(b[element+4:], order.Uint32(b[element+4:])+1) },
		"a key beyond the page":        func(b []byte) { u32(b[element+4:], 0xfffffff0) },
		"a key without bytes":          func(b []byte) { u32(b[element+8:], 0); u32(b[element+12:], 13) },
		"a longer key":                 func(b []byte) { u32(b[element+8:], 9) },
		"a key longer than the page":   func(b []byte) { u32(b[element+8:], 0xffffffff) },
		"a longer value":               func(b []byte) { u32(b[element+12:], 6) },
		"a value longer than the page": func(b []byte) { u32(b[element+elementSize+12:], 5000) },
		"the last value too long":      func(b []byte) { u32(b[element+elementSize+12:], 0xffffffff) },
		"a key below the one before":   func(b []byte) { b[at+headerSize+3*elementSize+8+5+7] = 9 },
		"the same key twice":           func(b []byte) { b[at+headerSize+3*elementSize+8+5+7] = 10 },
		"a key of the next page":       func(b []byte) { b[at+headerSize+3*elementSize+2*(8+5)+7] = 20 },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHandmade(12)
			h.page(3, flagBranch, 0, []pair{keys(1, 0)[0], keys(1, 10)[0], keys(1, 20)[0]}, []uint64{4, 5, 6})
			for i := range 3 {
				items := keys(3, 10*i)
				for j := range items {
					items[j].v = "value"
				}
				h.page(4+i, flagLeaf, 0, items, nil)
			}
			if got, err := held(t, &faultyReader{b: h.b}, "e", nil); err != nil || len(got) != 9 {
				t.Fatal(len(got), err)
			}
			change(h.b)
			got, err := held(t, &faultyReader{b: h.b}, "e", nil)
			if len(got) != 6 || err == nil || !strings.Contains(err.Error(), "skipping 1 pages and what is below them, the first page 5: ") {
				t.Errorf("%d pairs, %v", len(got), err)
			}
		})
	}
	t.Run("a branch that passes over a level", func(t *testing.T) {
		h := newHandmade(12)
		h.page(3, flagBranch, 0, []pair{keys(1, 0)[0], keys(1, 20)[0]}, []uint64{4, 5})
		h.page(4, flagBranch, 0, []pair{keys(1, 0)[0], keys(1, 10)[0]}, []uint64{6, 7})
		h.page(5, flagBranch, 0, keys(1, 20), []uint64{8})
		for i := range 3 {
			h.page(6+i, flagLeaf, 0, keys(3, 10*i), nil)
		}
		if got, err := held(t, &faultyReader{b: h.b}, "e", nil); err != nil || len(got) != 9 {
			t.Fatal(len(got), err)
		}
		order.PutUint64(h.b[3*4096+headerSize+8:], 6)
		if got, err := held(t, &faultyReader{b: h.b}, "e", nil); !errors.Is(err, ErrDamaged) || len(got) != 6 {
			t.Error(len(got), err)
		}
	})
}

// TestErrorSaysWhere checks what a person is told.
func TestErrorSaysWhere(t *testing.T) {
	h := newHandmade(10)
	h.page(3, flagBranch, 0, keys(3, 0), []uint64{4, 5, 99})
	h.page(4, flagLeaf, 0, keys(1, 0), nil)
	file := &faultyReader{b: h.b, bad: func(at int64) bool { return at/4096 == 5 }}
	_, err := held(t, file, "e", nil)
	want := `reading bucket "e": damaged file: skipping 2 pages and what is below them, the first page 5: input/output error`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	order.PutUint64(h.b[3*4096+headerSize+8:], 98)
	_, err = held(t, file, "e", nil)
	want = `reading bucket "e": damaged file: skipping 3 pages and what is below them, the first page 98: it is not within the file; and further on: input/output error`
	if err == nil || err.Error() != want || !errors.Is(err, syscall.EIO) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	// A visit's end does not hide what was skipped before it.
	h.page(6, flagLeaf, 0, keys(5, 2), nil)
	order.PutUint64(h.b[3*4096+headerSize+2*elementSize+8:], 6)
	f := open(t, h.b)
	if got, err := each(f, "e", nil, 2); len(got) != 2 || !errors.Is(err, ErrDamaged) {
		t.Error(len(got), err)
	}
	if got, err := each(f, "e", bigEndian(2), 2); len(got) != 2 || err != nil {
		t.Error(len(got), err)
	}
}

// FuzzEach reads whatever there is. The checksums of the meta pages are made
// right on demand, since no chance gets past them. The inputs are large: with
// -fuzzminimizetime 10x the time goes into new ones.
func FuzzEach(f *testing.F) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 3))
		pageSize := []int{512, 1024}[seed%2]
		file := randomFile(f, r, pageSize, 1+int(seed)/2, 100, int(seed)*4)
		small := create(f, 512, func(tx *bolt.Tx) error {
			b, err := tx.CreateBucket([]byte("append"))
			for i := range seed * 9 {
				err = errors.Join(err, b.Put(bigEndian(i), randomValue(r, 900)))
			}
			return err
		})
		for _, file := range [][]byte{file, small} {
			opened := open(f, file)
			file = file[:opened.Used()]
			f.Add(file, []byte{}, false)
			var branches []uint64
			for at := 0; at < len(file); at += opened.pageSize {
				if order.Uint16(file[at+8:]) == flagBranch && order.Uint64(file[at:]) == uint64(at/opened.pageSize) {
					branches = append(branches, order.Uint64(file[at:]))
				}
			}
			if len(branches) == 0 {
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(harms)) {
				harmed, _ := harms[name](r, bytes.Clone(file), opened.pageSize, branches)
				f.Add(harmed, bigEndian(r.Uint64N(300)), true)
			}
		}
	}
	f.Fuzz(func(t *testing.T, file, from []byte, seal bool) {
		if len(file) > 1<<20 {
			return
		}
		if seal {
			file = bytes.Clone(file)
			sealMeta(file, 0)
			for at := minPageSize; at <= maxPageSize; at <<= 1 {
				if len(file) >= at+headerSize+4 && order.Uint32(file[at+headerSize:]) == magic {
					sealMeta(file, at)
				}
			}
		}
		for _, bucket := range []string{"append", "random", "inline", "further 0003"} {
			all, err := held(t, &faultyReader{b: file}, bucket, nil)
			part, partErr := held(t, &faultyReader{b: file}, bucket, from)
			if err != nil || partErr != nil {
				continue
			}
			all = slices.DeleteFunc(all, func(p pair) bool { return p.k < string(from) })
			if !slices.Equal(all, part) {
				t.Fatalf("%d pairs from %x, %d when all are read", len(part), from, len(all))
			}
		}
	})
}
