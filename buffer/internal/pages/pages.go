// Package pages reads bbolt files that may be damaged.
//
// bbolt maps a file into memory and believes it: a truncated one kills the
// process with SIGBUS, and one whose pages form a loop with a stack overflow,
// which nothing recovers. This package reads through an io.ReaderAt only,
// believes a page after holding it to everything that bbolt keeps to when it
// writes one, does not recurse, and bounds what it reads and keeps. What it
// cannot believe it skips and reports; the rest is read all the same.
//
// It checks structure, not content: bbolt has checksums for its meta pages
// alone, so that what a flipped bit changed within a value, or within a key
// without breaking the order, is for the caller to find.
//
// # The format
//
// It is that of bbolt v1.5.0: internal/common/page.go, meta.go, bucket.go and
// inode.go (WriteInodeToPage) there. Integers are of the host's byte order.
// A file is an array of pages of one size; page n lies at n × page size. Each
// has a header, and those that need more room go on over the overflow pages
// that follow, which have none:
//
//	header          id u64, flags u16, count u16, overflow u32
//	meta            magic u32, version u32, page size u32, flags u32,
//	                root bucket {root u64, sequence u64}, freelist u64,
//	                high-water mark u64, transaction u64, FNV-64a of all that u64
//	branch element  pos u32, key size u32, page u64
//	leaf element    flags u32, pos u32, key size u32, value size u32
//
// Pages 0 and 1 are the meta pages; the valid one with the higher transaction
// counts. A branch or leaf page has count elements behind its header, then the
// keys and values, packed, in the order of the elements; pos counts from the
// element. A branch element's key is not above any key below its page, and the
// next element's is above all of them. The value of a bucket in its parent is
// {root u64, sequence u64}; when root is 0 the bucket is inline: a leaf page
// of exactly its own size follows.
package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"sort"
	"sync"
)

// ErrDamaged is what every error about a file's content is.
var ErrDamaged = errors.New("damaged file")

const (
	headerSize  = 16
	elementSize = 16 // of a branch as of a leaf
	metaSize    = 64
	bucketSize  = 16

	flagBranch = 0x01
	flagLeaf   = 0x02
	flagBucket = 0x01 // of a leaf element

	magic   = 0xED0CDAED
	version = 2

	minPageSize = 512
	maxPageSize = 64 << 10

	maxDepth = 32
	// bbolt leaves at most four keys together in a page that has overflow
	// pages. A key has at most 32 KiB, so that this bounds no branch; a leaf
	// it bounds to values of about 4 MiB.
	maxBranch = 256 << 10
	maxLeaf   = 16 << 20
)

var order = binary.NativeEndian

// fault is why a page is not believed.
type fault string

func (f fault) Error() string { return string(f) }

// File is a bbolt file as one of its meta pages has it: of Open the newest valid one.
// It may be used by several goroutines at once.
type File struct {
	r           io.ReaderAt
	size        int64
	pageSize    int
	highWater   uint64
	pages       uint64 // that exist: those below the high-water mark and whole within the file
	root        uint64
	transaction uint64
	metaDamaged bool
	previous    *meta     // the other one, if it is valid
	walks       sync.Pool // of *walk

	// entered is for tests: it is told of each page that is believed, how
	// many pages are above it on the way, and how many pages it takes.
	entered func(depth int, id uint64, n int)
}

// Open reads the meta pages. When neither is valid the error is ErrDamaged,
// and also what the reader answered if a meta page could not be read.
func Open(r io.ReaderAt, size int64) (*File, error) {
	newest, err0 := readMeta(r, size, 0, 0)
	first, last := newest.pageSize, newest.pageSize
	if err0 != nil {
		// Where the second one lies depends on the page size, which the first
		// would have said.
		first, last = minPageSize, maxPageSize
	}
	var second meta
	var err1 error
	for at := first; at <= last; at <<= 1 {
		if second, err1 = readMeta(r, size, int64(at), at); err1 == nil {
			break
		}
	}
	switch {
	case err0 != nil && err1 != nil:
		return nil, fmt.Errorf("opening a bbolt file of %d bytes: %w: meta page 0: %w; meta page 1: %w", size, ErrDamaged, err0, err1)
	case err0 != nil, err1 == nil && second.transaction > newest.transaction:
		newest, second = second, newest
	}
	f := fileOf(r, size, newest)
	f.metaDamaged = err0 != nil || err1 != nil
	if !f.metaDamaged {
		f.previous = &second
	}
	return f, nil
}

func fileOf(r io.ReaderAt, size int64, m meta) *File {
	f := &File{r: r, size: size, pageSize: int(m.pageSize), root: m.root, highWater: m.highWater, transaction: m.transaction}
	f.pages = min(f.highWater, uint64(size)/uint64(f.pageSize))
	return f
}

// Transaction is the number of the commit that wrote the meta page.
func (f *File) Transaction() uint64 { return f.transaction }

// Previous is the file as it was before the newest commit, by the older of two valid meta
// pages; nil if there is none. A commit writes to no page that the one before it has in use,
// so that one which did not reach the disk whole leaves this as it was.
func (f *File) Previous() *File {
	if f.previous == nil {
		return nil
	}
	return fileOf(f.r, f.size, *f.previous)
}

// MetaDamaged reports that one of the two meta pages is not valid: then the
// newest commit may not be what Open found.
func (f *File) MetaDamaged() bool { return f.metaDamaged }

// PageSize is the size of a page in bytes.
func (f *File) PageSize() int { return f.pageSize }

// Used is the bytes in use by the newest commit: its high-water mark. It is
// more than the file has when the file was truncated.
func (f *File) Used() int64 {
	if f.highWater > math.MaxInt64/uint64(f.pageSize) {
		return math.MaxInt64
	}
	return int64(f.highWater) * int64(f.pageSize)
}

// Each calls visit for each key and value of a top-level bucket, beginning
// with the first key that is not below from, until visit returns false. Keys
// come in strictly ascending order. They and the values are valid only during
// the call. A bucket within the bucket stands for its own keys, which must lie in
// its place: above the key before it, and none above its name.
//
// A page that cannot be read or believed is skipped, with the pages below it,
// and everything else is still visited. Then the error is ErrDamaged, and also
// what the reader answered if a page could not be read; it names the first
// such page and says how many there were, those below them not counted. It is
// returned also when visit returned false after such a page. A bucket that is
// not there is damage too.
//
// Nothing in the format says whose page a bucket's first page is, so that a
// bucket whose header was changed to name another one may be read without an
// error: a caller who must know that it saw all has to know what to expect.
// Leaves of more than 16 MiB are not believed, thus values of more than 4 MiB
// may not be.
func (f *File) Each(bucket, from []byte, visit func(k, v []byte) bool) error {
	w, ok := f.walks.Get().(*walk)
	if !ok {
		w = &walk{file: f}
	}
	defer f.walks.Put(w)
	w.begin(bucket)
	w.push(f.root, nil, nil, nil)
	var header []byte
	w.run(0, func(k, v []byte, isBucket bool) bool {
		if isBucket && bytes.Equal(k, bucket) {
			header = v
		}
		return false
	})
	if err := w.err(bucket); header == nil && err != nil {
		return err
	} else if header == nil {
		return fmt.Errorf("reading bucket %q: %w: there is none of that name", bucket, ErrDamaged)
	}
	// The way to the bucket stays on the stack below the bucket's own pages:
	// an inline bucket is part of it, and a page of it must not be met again.
	w.base, w.within, w.from = w.depth, true, from
	w.pushBucket(header, nil, nil)
	w.run(w.base, func(k, v []byte, _ bool) bool { return visit(k, v) })
	return w.err(bucket)
}

type meta struct {
	pageSize                     uint32
	root, highWater, transaction uint64
}

// readMeta reads the meta page at an offset. It must be for pages of the given
// size unless that is 0. As in bbolt, its header does not count: the checksum
// is of the rest.
func readMeta(r io.ReaderAt, size, at int64, pageSize uint32) (meta, error) {
	var b [headerSize + metaSize]byte
	if size < at+int64(len(b)) {
		return meta{}, fault("it is cut off")
	}
	if err := readFull(r, b[:], at); err != nil {
		return meta{}, err
	}
	m := b[headerSize:]
	sum := fnv.New64a()
	sum.Write(m[:56])
	got := meta{
		pageSize: order.Uint32(m[8:]), root: order.Uint64(m[16:]),
		highWater: order.Uint64(m[40:]), transaction: order.Uint64(m[48:]),
	}
	switch p := got.pageSize; {
	case order.Uint32(m) != magic:
		return meta{}, fault("there is none")
	case order.Uint32(m[4:]) != version:
		return meta{}, fault("its version is not 2")
	case order.Uint64(m[56:]) != sum.Sum64():
		return meta{}, fault("its checksum is wrong")
	case p < minPageSize || p > maxPageSize || p&(p-1) != 0 || pageSize != 0 && p != pageSize:
		return meta{}, fault("its page size is impossible")
	}
	return got, nil
}

// readFull is what ReadAt does, without a difference between a file that ends
// at the last byte and one that goes on.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// walk is one call of Each.
type walk struct {
	file   *File
	levels [maxDepth]level // the way to where the walk is; the first depth of them count
	depth  int
	from   []byte // where to begin
	base   int    // how deep the bucket lies
	within bool   // buckets are entered
	// budget is how many bytes may still be read. A page that is believed is
	// read once, since no key lies in two ranges; but pages that are not
	// believed could be named any number of times and overlap.
	budget int64

	skipped   int
	first     uint64 // the first page skipped, and why
	why       error
	readError error // the first, of any page
}

// level is a page that the walk is in.
type level struct {
	page
	id     uint64
	buf    []byte // kept from page to page; page.b is part of it unless inline
	next   int    // element
	from   []byte // no key is below
	to     []byte // all keys are below; nil: no bound
	bucket int    // the level of its bucket's first page

	// Of a bucket's first page: how deep its first leaf lies (-1: not all lie as deep); its
	// last key so far; and the bounds of the bucket in it that the walk is in.
	leaves            int
	last, above, upTo []byte
}

func (w *walk) begin(from []byte) {
	*w = walk{file: w.file, levels: w.levels, from: from, budget: 2*int64(w.file.pages)*int64(w.file.pageSize) + maxLeaf}
}

func (w *walk) skip(id uint64, why error) {
	if w.skipped == 0 {
		w.first, w.why = id, why
	}
	w.skipped++
}

func (w *walk) err(bucket []byte) error {
	if w.skipped == 0 {
		return nil
	}
	err := fmt.Errorf("reading bucket %q: %w: skipping %d pages and what is below them, the first page %d: %w",
		bucket, ErrDamaged, w.skipped, w.first, w.why)
	if w.readError != nil && !errors.Is(err, w.readError) {
		err = fmt.Errorf("%w; and further on: %w", err, w.readError)
	}
	return err
}

// run visits what is below the pages on the stack above base. When visit
// returns false it leaves the stack as it is.
func (w *walk) run(base int, visit func(k, v []byte, isBucket bool) bool) {
	for w.depth > base {
		l := &w.levels[w.depth-1]
		i := l.next
		if i >= l.count {
			w.depth--
			continue
		}
		l.next++
		if l.leaf {
			k, v, isBucket := l.item(i)
			if isBucket && w.within {
				w.pushWithin(&w.levels[l.bucket], k, v)
				continue
			}
			w.levels[l.bucket].passed(k)
			if !visit(k, v, isBucket) {
				return
			}
			continue
		}
		to := l.to
		if l.next < l.count {
			to = l.key(l.next)
		}
		w.push(l.child(i), nil, l.key(i), to)
	}
}

// push enters a page whose keys must lie in [from, to), or skips it. What is
// inline is no page of its own: it is in the value of the page above.
func (w *walk) push(id uint64, inline, from, to []byte) {
	if err := w.enter(id, inline, from, to); err != nil {
		if inline != nil {
			id, err = w.levels[w.depth-1].id, fmt.Errorf("a bucket in it: %w", err)
		}
		w.skip(id, err)
	}
}

// pushWithin enters a bucket that stands for its keys among those of another one.
func (w *walk) pushWithin(outer *level, name, header []byte) {
	from := outer.from
	if len(outer.last) > 0 {
		outer.above = behind(outer.above, outer.last)
		from = outer.above
	}
	outer.upTo = behind(outer.upTo, name)
	outer.passed(name)
	w.pushBucket(header, from, outer.upTo)
}

// passed notes a key of the bucket of which the level is the first page.
func (l *level) passed(key []byte) { l.last = append(l.last[:0], key...) }

// pushBucket enters the first page of a bucket, by what the page above has of it.
func (w *walk) pushBucket(header, from, to []byte) {
	var root uint64
	if len(header) >= bucketSize {
		root = order.Uint64(header)
	}
	switch {
	case len(header) < bucketSize, root != 0 && len(header) > bucketSize:
		w.skip(w.levels[w.depth-1].id, fault("a bucket's header is impossible"))
	case root == 0:
		w.push(0, header[bucketSize:], from, to)
	default:
		w.push(root, nil, from, to)
	}
}

// behind returns the first key that is above another one, in the memory of a third.
func behind(memory, key []byte) []byte { return append(append(memory[:0], key...), 0) }

func (w *walk) enter(id uint64, inline, from, to []byte) error {
	if w.depth == maxDepth {
		return fault("it lies too deep")
	}
	for i := range w.depth {
		if w.levels[i].id == id {
			return fault("it lies below itself")
		}
	}
	l := &w.levels[w.depth]
	l.id, l.from, l.to, l.next, l.bucket, l.leaves, l.last = id, from, to, 0, w.depth, 0, l.last[:0]
	if w.depth > w.base && !w.levels[w.depth-1].leaf {
		l.bucket = w.levels[w.depth-1].bucket
	}
	var err error
	if inline != nil {
		err = l.readInline(inline)
	} else {
		err = w.load(l)
	}
	if err != nil {
		return err
	}
	if err := l.ordered(from, to); err != nil {
		return err
	}
	if bytes.Compare(from, w.from) < 0 {
		l.next = l.seek(w.from)
	}
	if w.file.entered != nil && inline == nil {
		w.file.entered(w.depth, id, l.overflow+1)
	}
	// In bbolt's trees all leaves lie equally deep. A branch that names not its
	// child but one further below passes over what is between, and no key is
	// out of order. Which one it was is not known: nothing is skipped for it.
	if of := &w.levels[l.bucket]; l.leaf && of.leaves >= 0 {
		if of.leaves > 0 && of.leaves != w.depth+1 {
			w.skip(id, fault("it does not lie as deep as other leaves"))
			of.leaves = -1
		} else {
			of.leaves = w.depth + 1
		}
	}
	w.depth++
	return nil
}

// load reads a level's page. Nothing of an overflow is read before the
// elements bear it out, so that a wrong one costs nothing.
func (w *walk) load(l *level) error {
	f := w.file
	if l.id < 2 || l.id >= f.pages {
		return fault("it is not within the file")
	}
	l.buf = l.buf[:0]
	if err := w.fill(l, f.pageSize); err != nil {
		return err
	}
	if err := l.readHeader(l.buf, l.id); err != nil {
		return err
	}
	whole := int64(l.overflow+1) * int64(f.pageSize)
	limit := int64(maxLeaf)
	if !l.leaf {
		limit = maxBranch
	}
	switch {
	case uint64(l.overflow) >= f.pages-l.id:
		return fault("its overflow is not within the file")
	case whole > limit && l.overflow > 0, l.tableEnd() > whole:
		return fault("its size is impossible")
	case l.count == 0:
		return fault("it is empty") // bbolt removes such pages
	}
	if err := w.fill(l, int(l.tableEnd())); err != nil {
		return err
	}
	l.b = l.buf // it may have moved
	end, err := l.layout()
	if err != nil {
		return err
	}
	if (end-1)/int64(f.pageSize) != int64(l.overflow) {
		return fault("its overflow is not what its elements take")
	}
	if err := w.fill(l, int(end)); err != nil {
		return err
	}
	l.b = l.buf
	return nil
}

// fill reads on until the level's buffer has n bytes of its page.
func (w *walk) fill(l *level, n int) error {
	have := len(l.buf)
	if n <= have {
		return nil
	}
	if w.budget -= int64(n - have); w.budget < 0 {
		return fault("more was read than the file has")
	}
	l.buf = slices.Grow(l.buf, n-have)[:n]
	err := readFull(w.file.r, l.buf[have:], int64(l.id)*int64(w.file.pageSize)+int64(have))
	if err != nil && w.readError == nil {
		w.readError = err
	}
	return err
}

// page is a branch or leaf page.
type page struct {
	b        []byte
	leaf     bool
	count    int
	overflow int
}

func (p *page) readHeader(b []byte, id uint64) error {
	if len(b) < headerSize {
		return fault("it is cut off")
	}
	flags := order.Uint16(b[8:])
	*p = page{b: b, leaf: flags == flagLeaf, count: int(order.Uint16(b[10:])), overflow: int(order.Uint32(b[12:]))}
	switch {
	case order.Uint64(b) != id:
		return fault("another page lies in its place")
	case flags != flagLeaf && flags != flagBranch:
		return fault("it is neither branch nor leaf")
	}
	return nil
}

func (p *page) readInline(b []byte) error {
	if err := p.readHeader(b, 0); err != nil {
		return err
	}
	size := int64(len(b))
	if !p.leaf || p.tableEnd() > size {
		return fault("its header is impossible")
	}
	end, err := p.layout()
	if err == nil && end != size {
		err = fault("it does not have its size")
	}
	return err
}

// tableEnd is where the elements end.
func (p *page) tableEnd() int64 { return headerSize + elementSize*int64(p.count) }

// element is where an element's key begins and ends, and its value. Nothing is
// checked.
func (p *page) element(i int) (at, keyEnd, valueEnd int64) {
	o := headerSize + elementSize*int64(i)
	e := p.b[o : o+elementSize]
	if !p.leaf {
		at = o + int64(order.Uint32(e))
		keyEnd = at + int64(order.Uint32(e[4:]))
		return at, keyEnd, keyEnd
	}
	at = o + int64(order.Uint32(e[4:]))
	keyEnd = at + int64(order.Uint32(e[8:]))
	return at, keyEnd, keyEnd + int64(order.Uint32(e[12:]))
}

// layout checks that all keys and values lie packed behind the elements, as
// bbolt writes them, and returns where they end, which may be beyond the page.
// It needs the elements only.
func (p *page) layout() (end int64, err error) {
	end = p.tableEnd()
	for i := range p.count {
		at, keyEnd, valueEnd := p.element(i)
		switch {
		case at != end || keyEnd == at:
			return 0, fault("an element lies where none can")
		case p.leaf && order.Uint32(p.b[headerSize+elementSize*i:])&^flagBucket != 0:
			return 0, fault("an element's flags are impossible")
		}
		end = valueEnd
	}
	return end, nil
}

// ordered checks that keys ascend within [from, to).
func (p *page) ordered(from, to []byte) error {
	last := from
	for i := range p.count {
		k := p.key(i)
		if c := bytes.Compare(last, k); c > 0 || c == 0 && i > 0 {
			return fault("its keys are not in order")
		}
		last = k
	}
	if to != nil && bytes.Compare(last, to) >= 0 {
		return fault("its keys are not in order")
	}
	return nil
}

func (p *page) key(i int) []byte {
	at, keyEnd, _ := p.element(i)
	return p.b[at:keyEnd:keyEnd]
}

func (p *page) item(i int) (k, v []byte, isBucket bool) {
	at, keyEnd, valueEnd := p.element(i)
	return p.b[at:keyEnd:keyEnd], p.b[keyEnd:valueEnd:valueEnd], order.Uint32(p.b[headerSize+elementSize*i:]) == flagBucket
}

func (p *page) child(i int) uint64 {
	return order.Uint64(p.b[headerSize+elementSize*i+8:])
}

// seek returns the first element of a leaf that is not below key, and of a
// branch the one that key is below.
func (p *page) seek(key []byte) int {
	i, exact := sort.Find(p.count, func(i int) int { return bytes.Compare(key, p.key(i)) })
	if !p.leaf && !exact && i > 0 {
		i--
	}
	return i
}
