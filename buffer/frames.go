package buffer

import (
	"errors"

	bolt "go.etcd.io/bbolt"
)

const (
	// runFrom is how many bytes of frames have pages of their own, and runTo how many
	// may share them.
	runFrom = 8 << 10
	runTo   = 64 << 10
)

// frames are what one commit puts into a bucket, in the order of their numbers.
//
// A few lie there one by one, so that small commits share pages. Enough of them to fill pages
// lie as a run, one after the other in the value of one key, in a bucket that has nothing
// else: bbolt writes its pages in one piece, where it takes a write for each page of a
// tree, and rewrites the neighbours of what it puts beside them. The key, and the bucket's
// name, is the number of the run's last frame.
//
// The memory is used again by the next commit.
type frames struct {
	bytes   []byte
	ends    []int
	numbers []uint64
}

func (fs *frames) reset() { fs.bytes, fs.ends, fs.numbers = fs.bytes[:0], fs.ends[:0], fs.numbers[:0] }

// add takes a frame that is to lie under a number, above all before.
func (fs *frames) add(f *frame, number uint64) {
	fs.bytes = f.append(fs.bytes)
	fs.ends = append(fs.ends, len(fs.bytes))
	fs.numbers = append(fs.numbers, number)
}

// put puts all of them into a bucket. The transaction keeps the bytes until it ends.
func (fs *frames) put(b *bolt.Bucket) error {
	b.FillPercent = 1
	for first, at := 0, 0; first < len(fs.ends); {
		last := first
		for last+1 < len(fs.ends) && fs.ends[last+1]-at <= runTo {
			last++
		}
		end := fs.ends[last]
		var err error
		if end-at >= runFrom {
			err = putRun(b, fs.numbers[last], fs.bytes[at:end:end])
		} else {
			err = fs.putEach(b, first, last, at)
		}
		if err != nil {
			return err
		}
		first, at = last+1, end
	}
	return nil
}

func putRun(b *bolt.Bucket, number uint64, run []byte) error {
	var key [8]byte
	of, err := b.CreateBucket(putKey(&key, number))
	if err != nil {
		return err
	}
	return of.Put(key[:], run)
}

// putEach puts the frames from first to last one by one; the first begins at an offset.
func (fs *frames) putEach(b *bolt.Bucket, first, last, at int) error {
	var key [8]byte
	for i := first; i <= last; i++ {
		end := fs.ends[i]
		if err := b.Put(putKey(&key, fs.numbers[i]), fs.bytes[at:end:end]); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// errStop ends eachFrame without being an error.
var errStop = errors.New("enough")

// eachFrame visits the frames of a value, one or a run, until visit returns an error, which it
// returns.
func eachFrame(value []byte, visit func(frame) error) error {
	for {
		f, err := parseFrame(value)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		if value = value[f.size():]; len(value) == 0 {
			return nil
		}
	}
}
