package viewer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// A cursor is a place in one organization's log, as base64url: its version, the arrival,
// the id, and the first 16 bytes of an HMAC-SHA256 over these and what the list is of. So
// one of another list, a forged one and one that was cut are no cursors.
const (
	cursorVersion = 1
	cursorHead    = 1 + 8
	cursorMAC     = 16
	maxCursor     = 256
)

var errCursor = badRequest("the cursor is not one of this list: take it from next_cursor, or leave it away")

// cursor is the text of a place in a list.
func (v *Viewer) cursor(list string, p forwarder.Place) string {
	b := make([]byte, cursorHead, cursorHead+len(p.ID)+cursorMAC)
	b[0] = cursorVersion
	binary.BigEndian.PutUint64(b[1:], uint64(p.Timestamp))
	b = append(b, p.ID...)
	return base64.RawURLEncoding.EncodeToString(append(b, v.cursorSum(list, b)...))
}

// place is a cursor's.
func (v *Viewer) place(list, cursor string) (p forwarder.Place, err error) {
	if len(cursor) > maxCursor {
		return p, errCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) <= cursorHead+cursorMAC || b[0] != cursorVersion {
		return p, errCursor
	}
	at := len(b) - cursorMAC
	if !hmac.Equal(v.cursorSum(list, b[:at]), b[at:]) {
		return p, errCursor
	}
	return forwarder.Place{Timestamp: int64(binary.BigEndian.Uint64(b[1:])), ID: string(b[cursorHead:at])}, nil
}

func (v *Viewer) cursorSum(list string, place []byte) []byte {
	h := hmac.New(sha256.New, v.o.Key[:])
	h.Write([]byte("cursor\x00"))
	h.Write(place)
	h.Write([]byte{0})
	h.Write([]byte(list))
	return h.Sum(nil)[:cursorMAC]
}
