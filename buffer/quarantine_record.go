package buffer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A record is how a quarantined entry lies in quarantine.db. Like a frame it has all
// that is needed to find it in a file whose pages are otherwise lost. Integers are
// big-endian; DESIGN.md has the table of bytes.
const (
	recordMagic  = 0x41554451 // "AUDQ"
	recordHeader = 4 + 4 + 4 + 1 + 8 + 8 + 8 + 2

	// maxReason bounds a reason, in bytes, and maxStoreName a store's name.
	maxReason    = 1 << 10
	maxStoreName = 255
	// maxRecordMeta bounds what JSON makes of them and of the instance: each byte
	// may become six.
	maxRecordMeta = 6*(maxReason+2*maxStoreName) + 256
	maxRecord     = recordHeader + maxRecordMeta + MaxPayload
)

var quarantineMagic = [4]byte{'A', 'U', 'D', 'Q'}

// Resolution is what becomes of a quarantined entry.
type Resolution uint8

// What can become of one.
const (
	// ResolvedDelivered: the store has taken the entry after all.
	ResolvedDelivered Resolution = 1
	// ResolvedDropped: an operator has given it up. A gap says so.
	ResolvedDropped Resolution = 2
)

// record is a quarantined entry, or what is left of one that was resolved: then as is
// set, and there is no payload.
type record struct {
	as       Resolution
	sequence uint64
	// serial counts what was written to the file: of two records of one entry, as a
	// scan may find them, the higher one counts.
	serial  uint64
	at      int64 // µs since the Unix epoch
	meta    recordMeta
	payload []byte
}

type recordMeta struct {
	Store    string `json:"store"`
	Instance string `json:"instance,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

func (r *record) quarantined() Quarantined {
	return Quarantined{
		Store: r.meta.Store, Sequence: r.sequence, Instance: r.meta.Instance,
		At: time.UnixMicro(r.at), Reason: r.meta.Reason, Payload: r.payload,
	}
}

func (r *record) encode() ([]byte, error) {
	meta, err := json.Marshal(r.meta)
	if err != nil {
		return nil, err
	}
	if len(meta) > maxRecordMeta {
		return nil, errors.New("the names of its store and instance are too long")
	}
	n := recordHeader + len(meta) + len(r.payload)
	b := make([]byte, 0, n)
	b = binary.BigEndian.AppendUint32(b, recordMagic)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, byte(r.as))
	b = binary.BigEndian.AppendUint64(b, r.sequence)
	b = binary.BigEndian.AppendUint64(b, r.serial)
	b = binary.BigEndian.AppendUint64(b, uint64(r.at))
	b = binary.BigEndian.AppendUint16(b, uint16(len(meta)))
	b = append(b, meta...)
	b = append(b, r.payload...)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[12:], crcTable))
	return b, nil
}

// recordSize is the length of the record that begins with b, if one can.
func recordSize(b []byte) (int, bool) {
	if len(b) < recordHeader || binary.BigEndian.Uint32(b) != recordMagic {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b[4:])
	return int(n), n >= recordHeader && n <= maxRecord
}

// parseRecord checks a record whole. The payload is part of b.
func parseRecord(b []byte) (r record, err error) {
	n, ok := recordSize(b)
	if !ok || n > len(b) {
		return r, fmt.Errorf("%w: no record of quarantine begins there, or not all of it is there", errFrame)
	}
	b = b[:n:n]
	if sum := crc32.Checksum(b[12:], crcTable); sum != binary.BigEndian.Uint32(b[8:]) {
		return r, fmt.Errorf("%w: checksum", errFrame)
	}
	r = record{
		as: Resolution(b[12]), sequence: binary.BigEndian.Uint64(b[13:]),
		serial: binary.BigEndian.Uint64(b[21:]), at: int64(binary.BigEndian.Uint64(b[29:])),
	}
	meta := int(binary.BigEndian.Uint16(b[37:]))
	if r.as > ResolvedDropped || recordHeader+meta > n {
		return r, fmt.Errorf("%w: a record of quarantine is impossible", errFrame)
	}
	if err := json.Unmarshal(b[recordHeader:recordHeader+meta], &r.meta); err != nil {
		return r, fmt.Errorf("%w: %w", errFrame, err)
	}
	if !validStoreName(r.meta.Store) || r.sequence == 0 {
		return r, fmt.Errorf("%w: a record of quarantine names no entry", errFrame)
	}
	r.payload = b[recordHeader+meta:]
	return r, nil
}

// recordKey orders records by store and sequence: no name has a zero byte.
func recordKey(store string, sequence uint64) []byte {
	k := append(make([]byte, 0, len(store)+9), store...)
	return binary.BigEndian.AppendUint64(append(k, 0), sequence)
}

func (r *record) key() []byte { return recordKey(r.meta.Store, r.sequence) }

// footprint is about what a record of n bytes takes of the file: what has a good part
// of a page has pages of its own.
func footprint(n int) int64 {
	const page = 4 << 10
	if n < page/4 {
		return int64(n) + 64
	}
	return (int64(n) + 64 + page - 1) / page * page
}

func validStoreName(s string) bool {
	return s != "" && len(s) <= maxStoreName && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

// printableReason is a reason as it is kept: one line of printable characters, at most
// maxReason bytes. It comes from a store, which may be hostile.
func printableReason(s string) string {
	var b strings.Builder
	for _, r := range s {
		if !unicode.IsPrint(r) {
			if !unicode.IsSpace(r) {
				continue
			}
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > maxReason {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
