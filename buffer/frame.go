package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A frame is how one entry lies in a segment. It carries all that is needed to
// find and order the entry in a file whose pages are otherwise lost. All
// integers are big-endian; DESIGN.md has the table of bytes.
const (
	frameMagic  = 0x41554431 // "AUD1"
	frameHeader = 4 + 4 + 4 + 1 + 8 + 8 + 8

	// flagCompletes marks the entry that ends its call's intent.
	flagCompletes = 1 << 0
	// flagState marks the state: its sequence is the head, its time the commit's.
	flagState = 1 << 1
	// flagSum marks a checksum, beside flagState.
	flagSum = 1 << 2
	// flagLost marks what stands in a repaired file for an entry that is lost.
	flagLost = 1 << 3
)

// magic is how a frame begins.
var magic = [4]byte{'A', 'U', 'D', '1'}

// MaxPayload bounds one intent or entry, in bytes.
const MaxPayload = 1 << 20

var crcTable = crc32.MakeTable(crc32.Castagnoli)

var errFrame = errors.New("damaged frame")

type frame struct {
	flags    byte
	sequence uint64
	intent   uint64
	time     int64 // of arrival at the buffer, µs since the Unix epoch
	payload  []byte
}

func (f *frame) isState() bool  { return f.flags&flagState != 0 }
func (f *frame) isIntent() bool { return f.flags&flagState == 0 && f.sequence == 0 }

// size is what it takes, in bytes.
func (f *frame) size() int { return frameHeader + len(f.payload) }

func (f *frame) append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, frameMagic)
	dst = binary.BigEndian.AppendUint32(dst, uint32(f.size()))
	dst = binary.BigEndian.AppendUint32(dst, 0)
	body := len(dst)
	dst = append(dst, f.flags)
	dst = binary.BigEndian.AppendUint64(dst, f.sequence)
	dst = binary.BigEndian.AppendUint64(dst, f.intent)
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.time))
	dst = append(dst, f.payload...)
	binary.BigEndian.PutUint32(dst[start+8:], crc32.Checksum(dst[body:], crcTable))
	return dst
}

// parseFrame checks the frame with which b begins. The payload is part of b.
func parseFrame(b []byte) (frame, error) {
	if len(b) < frameHeader {
		return frame{}, fmt.Errorf("%w: %d bytes are too few", errFrame, len(b))
	}
	if m := binary.BigEndian.Uint32(b); m != frameMagic {
		return frame{}, fmt.Errorf("%w: magic %08x", errFrame, m)
	}
	n := binary.BigEndian.Uint32(b[4:])
	if n < frameHeader || n > frameHeader+MaxPayload || uint64(n) > uint64(len(b)) {
		return frame{}, fmt.Errorf("%w: length %d of %d", errFrame, n, len(b))
	}
	b = b[:n]
	if sum := crc32.Checksum(b[12:], crcTable); sum != binary.BigEndian.Uint32(b[8:]) {
		return frame{}, fmt.Errorf("%w: checksum", errFrame)
	}
	return frame{
		flags:    b[12],
		sequence: binary.BigEndian.Uint64(b[13:]),
		intent:   binary.BigEndian.Uint64(b[21:]),
		time:     int64(binary.BigEndian.Uint64(b[29:])),
		payload:  b[frameHeader:],
	}, nil
}

func putKey(k *[8]byte, n uint64) []byte {
	binary.BigEndian.PutUint64(k[:], n)
	return k[:]
}
