package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

// maxColumn bounds a text that is indexed, in bytes: PostgreSQL refuses a row whose
// index entry takes more than a third of a page, and such texts come from anybody.
const maxColumn = 400

// column is a text as the column beside the document has it. PostgreSQL's texts have
// no U+0000, so this is written \0, and a backslash as two. Of a long one the hash
// takes the end's place. Two texts never share a column but by a collision of SHA-256.
func column(s string) string {
	s = escape(s)
	if len(s) <= maxColumn {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	// No other column has a single backslash before an s.
	begin := strings.TrimRight(strings.ToValidUTF8(s[:maxColumn-2*len(sum)-2], ""), `\`)
	return begin + `\s` + hex.EncodeToString(sum[:])
}

var escapes = strings.NewReplacer("\x00", `\0`, `\`, `\\`)

// unknown is NULL for the empty string.
func unknown(s string) *string {
	if s == "" {
		return nil
	}
	s = column(s)
	return &s
}

// The kinds of marks.
const (
	markToken   = 't'
	markSession = 's'
	markUser    = 'u'
	markIP      = 'i'
)

// mark stands for who acts in an index: 64 bits of the SHA-256 of kind and text. Two
// may share one, so it only finds candidates.
//
// All of an entry's marks are in one column with one GIN index, which keeps each mark
// once with a packed list of its rows, and gathers new rows before it sorts them in.
// Who acts has many values and comes back often: a B-tree for each kind would take each
// of a batch's entries to four more pages of their own.
func mark(kind byte, s string) int64 {
	sum := sha256.Sum256(append([]byte{kind}, s...))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// marks are all of an entry's, as PostgreSQL writes an array; nil if it has none.
func marks(a *audit.Actor) *string {
	b := []byte{'{'}
	add := func(kind byte, s string) {
		if s == "" {
			return
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, mark(kind, s), 10)
	}
	add(markToken, a.TokenHash)
	for _, hash := range a.OtherTokenHashes {
		add(markToken, hash)
	}
	add(markSession, a.SessionID)
	add(markUser, a.UserID)
	add(markIP, a.IP)
	if len(b) == 1 {
		return nil
	}
	s := string(append(b, '}'))
	return &s
}
