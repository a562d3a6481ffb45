package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// The file of known callers, big-endian: "KNW1", then for each caller the SHA-256
// of its credential's hash and the second since the Unix epoch until which it is
// known, and last the CRC-32C of all that.
const (
	knownMagic  = "KNW1"
	knownRecord = len(audit.TokenSum{}) + 8
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// MarshalBinary implements encoding.BinaryMarshaler. What it gives shows no
// credential, and none of the hashes that entries have.
func (k *Known) MarshalBinary() ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	b := make([]byte, 0, len(knownMagic)+len(k.callers.values)*knownRecord+4)
	b = append(b, knownMagic...)
	for sum, r := range k.callers.values {
		b = append(b, sum[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(r.until.Unix()))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crcTable)), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. It adds the callers whose
// time is not over, none beyond a day from now, whatever the clock did meanwhile.
func (k *Known) UnmarshalBinary(b []byte) error {
	n := len(b) - len(knownMagic) - 4
	if n < 0 || n%knownRecord != 0 || string(b[:len(knownMagic)]) != knownMagic {
		return errors.New("reading known callers: it is no such file")
	}
	body := b[:len(b)-4]
	if got, want := crc32.Checksum(body, crcTable), binary.BigEndian.Uint32(b[len(b)-4:]); got != want {
		return fmt.Errorf("reading known callers: the checksum is %08x and should be %08x", got, want)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for body = body[len(knownMagic):]; len(body) > 0; body = body[knownRecord:] {
		var sum audit.TokenSum
		copy(sum[:], body)
		left := time.Unix(int64(binary.BigEndian.Uint64(body[len(sum):])), 0).Sub(now)
		if left = min(left, knownFor); left > 0 {
			k.callers.put(sum, struct{}{}, now.Add(left), now)
		}
	}
	return nil
}
