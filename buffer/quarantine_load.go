package buffer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/buffer/internal/pages"
)

// found is what the file has of an entry.
type found struct {
	as     Resolution
	serial uint64
	size   uint32 // of the record
}

// recordPlace is where a record lies in a file that had to be scanned.
type recordPlace struct {
	store    string
	sequence uint64
	offset   int64
	found
}

// records is a set of entries by store and sequence.
type records[V any] map[string]map[uint64]V

func (r records[V]) put(store string, sequence uint64, v V) {
	if r[store] == nil {
		r[store] = map[uint64]V{}
	}
	r[store][sequence] = v
}

func (r records[V]) drop(store string, sequence uint64) {
	delete(r[store], sequence)
	if len(r[store]) == 0 {
		delete(r, store)
	}
}

func (r records[V]) clone() records[V] {
	c := make(records[V], len(r))
	for store, of := range r {
		c[store] = maps.Clone(of)
	}
	return c
}

func (r records[V]) len() (n int) {
	for _, of := range r {
		n += len(of)
	}
	return n
}

func (r records[V]) has(store string, sequence uint64) bool {
	_, ok := r[store][sequence]
	return ok
}

// quarantineContents is what a start finds in quarantine.db.
type quarantineContents struct {
	all    records[found]
	serial uint64 // the highest
	// harm is why the file was scanned; nil if it is whole.
	harm   error
	places []recordPlace // of a harmed one, by store and sequence
}

func (c *quarantineContents) add(store string, sequence uint64, f found) {
	c.all.put(store, sequence, f)
	c.serial = max(c.serial, f.serial)
}

// openQuarantine opens the file for reading. It is nil if there is none: what is not a
// regular file is not ours.
func openQuarantine(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// loadQuarantine reads the whole file by its tree, or if that is harmed, by what a scan
// finds. A record that cannot be read is harm; that one is not there is for the caller
// to see, who knows how many there must be.
func loadQuarantine(f *os.File) (c quarantineContents) {
	c.all = records[found]{}
	if f == nil {
		return c
	}
	readAhead(f)
	err := walkRecords(f, nil, func(r record, raw []byte) bool {
		c.add(r.meta.Store, r.sequence, found{as: r.as, serial: r.serial, size: uint32(len(raw))})
		return true
	})
	if err != nil {
		return scanQuarantine(f, err)
	}
	return c
}

// scanQuarantine gathers what a scan of a harmed file finds.
func scanQuarantine(f *os.File, why error) (c quarantineContents) {
	c.all = records[found]{}
	var err error
	c.places, err = scanRecords(f)
	c.harm = errors.Join(why, err)
	for _, p := range c.places {
		c.add(p.store, p.sequence, p.found)
	}
	return c
}

// walkRecords visits the records of a file from a key on, in order, by its tree. What
// it cannot believe it passes over, and says so in the end.
func walkRecords(f *os.File, from []byte, visit func(r record, raw []byte) bool) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	tree, err := pages.Open(f, info.Size())
	if err != nil {
		return err
	}
	var bad error
	err = tree.Each(bucketRecords, from, func(k, v []byte) bool {
		r, err := parseRecord(v)
		if err == nil && !bytes.Equal(r.key(), k) {
			err = fmt.Errorf("%w: a record lies in the place of another", errHarmed)
		}
		if err != nil {
			bad = cmp.Or(bad, err)
			return true
		}
		return visit(r, v)
	})
	if tree.MetaDamaged() {
		bad = cmp.Or(bad, fmt.Errorf("%w: one of its two meta pages cannot be read", errHarmed))
	}
	return errors.Join(bad, err)
}

// scanRecords finds every whole record of a file, wherever it lies. Of several of one
// entry, as pages that are not in use any more have them, the newest counts.
func scanRecords(f *os.File) (places []recordPlace, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	readAhead(f)
	places = []recordPlace{}
	err = pages.Scan(f, info.Size(), quarantineMagic, maxRecord, func(offset int64, b []byte) int {
		n, ok := recordSize(b)
		if !ok || n > len(b) {
			return len(quarantineMagic)
		}
		r, err := parseRecord(b[:n])
		if err != nil {
			return len(quarantineMagic)
		}
		places = append(places, recordPlace{
			store: strings.Clone(r.meta.Store), sequence: r.sequence, offset: offset,
			found: found{as: r.as, serial: r.serial, size: uint32(n)},
		})
		return n
	})
	slices.SortFunc(places, func(a, b recordPlace) int {
		return cmp.Or(a.compare(b.store, b.sequence), cmp.Compare(b.serial, a.serial))
	})
	return slices.CompactFunc(places, func(a, b recordPlace) bool { return a.compare(b.store, b.sequence) == 0 }), err
}

// compare orders as the keys do.
func (p *recordPlace) compare(store string, sequence uint64) int {
	return bytes.Compare(recordKey(p.store, p.sequence), recordKey(store, sequence))
}

// read reads the record at its place.
func (p *recordPlace) read(f *os.File) (r record, raw []byte, err error) {
	raw = make([]byte, p.size)
	if _, err := f.ReadAt(raw, p.offset); err != nil {
		return r, nil, err
	}
	r, err = parseRecord(raw)
	if err == nil && (r.meta.Store != p.store || r.sequence != p.sequence) {
		err = fmt.Errorf("%w: a record could be read a moment ago", errHarmed)
	}
	return r, raw, err
}

// walkPlaces is walkRecords for what a scan has found.
func walkPlaces(f *os.File, places []recordPlace, from []byte, visit func(r record, raw []byte) bool) (bad error) {
	i := sort.Search(len(places), func(i int) bool {
		return bytes.Compare(recordKey(places[i].store, places[i].sequence), from) >= 0
	})
	for ; i < len(places); i++ {
		r, raw, err := places[i].read(f)
		if err != nil {
			bad = cmp.Or(bad, err)
			continue
		}
		if !visit(r, raw) {
			break
		}
	}
	return bad
}
