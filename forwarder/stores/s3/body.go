package s3

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// The bounds of what is read of an object: anybody may have written it.
const (
	// maxWindow is what decompressing may hold, in bytes. This store's own objects need
	// 8 MiB.
	maxWindow = 8 << 20
	// maxPlain bounds an object's entries, in bytes. Those of this store are batches, of
	// 4 MiB or of one entry.
	maxPlain = 1 << 30
	// maxLine bounds one entry, in bytes.
	maxLine = 64 << 20
)

// defaultClass is the retention class of entries that have none.
const defaultClass = "default"

// encoder compresses. One goroutine and one level, so that the same entries become the
// same bytes as long as the library stays the same; nothing depends on it, since objects
// are compared by what is in them.
var encoder = func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(maxWindow))
	if err != nil {
		panic(err) // the options are constant
	}
	return e
}()

// class is the retention class that an entry is stored under.
func class(r forwarder.Record) string {
	if t := r.Entry.Retention; t != nil && t.Class != "" {
		return t.Class
	}
	return defaultClass
}

func instance(r forwarder.Record) string {
	if o := r.Entry.Origin; o != nil {
		return o.Instance
	}
	return ""
}

func arrival(r forwarder.Record) time.Time { return time.UnixMicro(r.Entry.Timestamp).UTC() }

// plain is what goes into an object, before it is compressed.
func plain(records []forwarder.Record) []byte {
	size := 0
	for _, r := range records {
		size += len(r.JSON) + 1
	}
	b := make([]byte, 0, size)
	for _, r := range records {
		b = append(append(b, r.JSON...), '\n')
	}
	return b
}

// describe is the object that these entries make, which are of one instance and class
// and in ascending sequence. Its day is for the caller to set.
func describe(records []forwarder.Record, body []byte) object {
	first, last := records[0], records[len(records)-1]
	o := object{class: class(first), instance: instance(first), first: first.Sequence, last: last.Sequence, entries: len(records)}
	from, to := span(records)
	o.from, o.to = from.Truncate(time.Second), to.Truncate(time.Second)
	sum := sha256.Sum256(body)
	o.sum = hex.EncodeToString(sum[:])
	return o
}

// span is the first and the last arrival.
func span(records []forwarder.Record) (from, to time.Time) {
	from, to = arrival(records[0]), arrival(records[0])
	for _, r := range records[1:] {
		at := arrival(r)
		if at.Before(from) {
			from = at
		}
		if at.After(to) {
			to = at
		}
	}
	return from, to
}

// eachEntry reads an object's compressed body and yields each entry, whose bytes are
// valid until the next. It returns nil only if all of it is what the name says.
func (o object) eachEntry(body io.Reader, yield func(doc []byte) error) error {
	z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	hash := sha256.New()
	bounded := &io.LimitedReader{R: z, N: maxPlain + 1}
	in := bufio.NewReaderSize(io.TeeReader(bounded, hash), 64<<10)
	n := 0
	for {
		doc, err := readLine(in)
		if errors.Is(err, io.EOF) && len(doc) == 0 {
			break
		}
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("its last line is not whole")
		case err != nil:
			return err
		case bounded.N <= 0:
			return fmt.Errorf("it is larger than %d bytes", maxPlain)
		}
		if n++; n > o.entries {
			return fmt.Errorf("it has more than the %d entries that its name says", o.entries)
		}
		if err := yield(doc); err != nil {
			return err
		}
	}
	if n != o.entries {
		return fmt.Errorf("it has %d entries, and its name says %d", n, o.entries)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != o.sum {
		return fmt.Errorf("the SHA-256 of its entries is %s, and its name says another", sum)
	}
	return nil
}

// readLine reads a line without its newline.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > maxLine {
			return nil, fmt.Errorf("it has a line of more than %d bytes", maxLine)
		}
		line, err = in.ReadSlice('\n')
		long = append(long, line...)
	}
	return bytes.TrimSuffix(long, []byte("\n")), err
}
