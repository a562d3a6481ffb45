package pages

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const (
	scanChunk = 1 << 20
	// scanStep is how much is given up around a place that cannot be read.
	scanStep = 4 << 10
)

// Scan finds records in a file whose pages are lost. It reads the whole of r
// and calls visit for each occurrence of the magic, with its offset and up to
// most bytes that begin there: fewer at the end of the file or before a stretch
// that cannot be read. They are valid only during the call. Visit returns how
// many bytes to go on by, at least 1; more than is left ends the scan.
//
// Stretches that cannot be read are skipped in steps of 4 KiB. Then the error is
// ErrDamaged, and also what the reader answered first. A magic that lies partly
// in such a stretch is not found.
func Scan(r io.ReaderAt, size int64, magic [4]byte, most int, visit func(offset int64, b []byte) (skip int)) error {
	return scanIn(scanChunk, r, size, magic, most, visit)
}

// scanIn is Scan with chunks of a size that a test chooses.
func scanIn(chunk int, r io.ReaderAt, size int64, magic [4]byte, most int, visit func(offset int64, b []byte) (skip int)) error {
	most = max(most, len(magic))
	s := scan{r: r, size: size, buf: make([]byte, 0, max(0, min(size, int64(chunk)+int64(most))))}
	for s.at < size {
		s.fill()
		// Within the buffer i is where to look next. Only what has its most
		// bytes in the buffer is visited, unless no more can come.
		i := int64(0)
		for {
			rest := s.buf[min(i, int64(len(s.buf))):]
			hit := bytes.Index(rest, magic[:])
			if hit < 0 {
				// A magic may have begun.
				if !s.ended {
					i = max(i, int64(len(s.buf)-len(magic)+1))
				}
				break
			}
			i += int64(hit)
			b := s.buf[i:]
			if len(b) < most && !s.ended {
				break
			}
			offset := s.at + i
			skip := visit(offset, b[:min(len(b), most):min(len(b), most)])
			i += min(int64(max(skip, 1)), size-offset)
		}
		s.skipTo(i)
	}
	if s.lost > 0 {
		return fmt.Errorf("scanning a file of %d bytes: %w: %d bytes cannot be read, the first at %d: %w", size, ErrDamaged, s.lost, s.first, s.err)
	}
	return nil
}

// scan is a buffer that moves over a file.
type scan struct {
	r    io.ReaderAt
	size int64
	buf  []byte
	at   int64 // of the buffer in the file
	// ended says that nothing follows the buffer: the file ends there, or it
	// cannot be read up to resume.
	ended  bool
	resume int64
	narrow bool // read in steps

	lost, first int64
	err         error
}

// skipTo moves the buffer on by n bytes. Where it ended it moves on behind what
// cannot be read.
func (s *scan) skipTo(n int64) {
	if n < int64(len(s.buf)) && !s.ended {
		s.buf = s.buf[:copy(s.buf, s.buf[n:])]
		s.at += n
		return
	}
	s.at += n
	if s.ended {
		s.at = max(s.at, s.resume)
	}
	s.buf, s.ended = s.buf[:0], false
}

// fill reads until the buffer is full or ends.
func (s *scan) fill() {
	for !s.ended {
		have := len(s.buf)
		next := s.at + int64(have)
		n := int(min(int64(cap(s.buf)-have), s.size-next))
		if next == s.size {
			s.ended, s.resume = true, s.size
			return
		}
		if n == 0 {
			s.narrow = false
			return
		}
		if s.narrow {
			n = min(n, int(scanStep-next%scanStep))
		}
		got, err := s.r.ReadAt(s.buf[have:have+n], next)
		s.buf = s.buf[:have+got]
		if got == n {
			continue
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		ends := errors.Is(err, io.ErrUnexpectedEOF)
		if !s.narrow && !ends {
			// What can be read of the rest is found out step by step, until a
			// whole buffer could be read.
			s.narrow = true
			continue
		}
		next += int64(got)
		s.ended, s.resume = true, min(s.size, next-next%scanStep+scanStep)
		if ends {
			s.resume = s.size
		}
		if s.err == nil {
			s.err, s.first = err, next
		}
		s.lost += s.resume - next
	}
}
