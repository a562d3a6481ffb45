package file

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds the lines that are looked into, in bytes. Others are passed over.
const maxLine = 64 << 20

// span says which entries a rotated file holds: the first's and the last's sequence,
// with their buffer's instance.
func (s *Store) span(ctx context.Context, name string) (first, last string, err error) {
	err = s.read(ctx, name, func(r io.Reader) error {
		head, tail, err := ends(r)
		first, last = place(head), place(tail)
		return err
	})
	return first, last, err
}

// ends returns the first and the last line.
func ends(r io.Reader) (first, last []byte, err error) {
	b := bufio.NewReaderSize(r, 256<<10)
	var line []byte
	for {
		part, err := b.ReadSlice('\n')
		if len(line) < maxLine {
			line = append(line, part...)
		}
		switch {
		case err == nil:
			if first == nil {
				first = bytes.Clone(line)
			}
			line, last = last[:0], line
		case errors.Is(err, io.EOF):
			return first, last, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return first, last, err
		}
	}
}

// place is where a line's entry stands, in the formats that a line can have.
func place(line []byte) string {
	var e struct {
		Origin struct {
			Instance string
			Sequence uint64
		}
		Metadata struct{ Sequence uint64 } // OCSF
	}
	if json.Unmarshal(line, &e) != nil || e.Origin.Sequence == 0 && e.Metadata.Sequence == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%s/%d", cmp.Or(e.Origin.Instance, "-"), cmp.Or(e.Origin.Sequence, e.Metadata.Sequence))
}
