package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// The frame as buffer/DESIGN.md describes it. It is read here by what is
// written there, and not by the code that is examined.
const (
	frameHeader = 37
	maxPayload  = 1 << 20

	flagState = 1 << 1
	flagLost  = 1 << 3
)

var (
	frameMagic = []byte("AUD1")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

type frame struct {
	flags            byte
	sequence, intent uint64
	payload          []byte
}

func (f frame) isState() bool  { return f.flags&flagState != 0 }
func (f frame) isEntry() bool  { return f.flags&(flagState|flagLost) == 0 && f.sequence > 0 }
func (f frame) isIntent() bool { return f.flags&(flagState|flagLost) == 0 && f.sequence == 0 }

// parse reads the frame at the beginning of b.
func parse(b []byte) (f frame, ok bool) {
	if len(b) < frameHeader || !bytes.HasPrefix(b, frameMagic) {
		return f, false
	}
	n := binary.BigEndian.Uint32(b[4:])
	if n < frameHeader || n > frameHeader+maxPayload || int64(n) > int64(len(b)) {
		return f, false
	}
	b = b[:n]
	if crc32.Checksum(b[12:], castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return f, false
	}
	return frame{b[12], binary.BigEndian.Uint64(b[13:]), binary.BigEndian.Uint64(b[21:]), b[frameHeader:]}, true
}

// scan finds every whole frame of a file, wherever it lies.
func scan(b []byte) (found []frame) {
	for {
		i := bytes.Index(b, frameMagic)
		if i < 0 {
			return found
		}
		if f, ok := parse(b[i:]); ok {
			found = append(found, f)
		}
		b = b[i+1:]
	}
}

// content identifies what an entry says, whoever wrote it down: what is
// stamped on it on its way does not count.
type content [sha256.Size]byte

// read takes an entry's JSON apart as far as it is needed here.
func read(doc []byte) (id string, c content, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(doc, &fields); err != nil {
		return "", c, fmt.Errorf("decoding an entry: %w: %.200q", err, doc)
	}
	delete(fields, "origin")
	delete(fields, "retention")
	if err := json.Unmarshal(fields["id"], &id); err != nil {
		return "", c, fmt.Errorf("decoding an entry's id: %w: %.200q", err, doc)
	}
	b, err := json.Marshal(fields) // in the order of their names
	return id, sha256.Sum256(b), err
}
