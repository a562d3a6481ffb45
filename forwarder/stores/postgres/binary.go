package postgres

import (
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"
)

// parameter is an argument of a function as it goes to the server: in PostgreSQL's binary
// form, with its type, so that nothing is quoted here and parsed there. pgx sends arrays of
// a statement that was not prepared as text, which costs an entry, whose document is full of
// quotes, as much again on either side.
//
// The form of an array is that of array_send in src/backend/utils/adt/arrayfuncs.c:
// dimensions, whether there is a NULL, the elements' type, and for the one dimension its
// length and lower bound; then each element with its length, or -1 for NULL.
type parameter struct {
	value []byte // nil is NULL
	oid   uint32
}

// parameterOf makes one of a slice, of which nil is NULL, or of a number.
func parameterOf(arg any) (parameter, error) {
	switch v := arg.(type) {
	case int64:
		return parameter{appendBigint(nil, v), pgtype.Int8OID}, nil
	case []string:
		bytes := 0
		for _, s := range v {
			bytes += len(s)
		}
		return array(pgtype.TextArrayOID, pgtype.TextOID, v, bytes, appendText), nil
	case []*string:
		return array(pgtype.TextArrayOID, pgtype.TextOID, v, 8*len(v), orNull(appendText)), nil
	case [][]byte:
		return array(pgtype.ByteaArrayOID, pgtype.ByteaOID, v, 8*len(v), func(b, raw []byte) []byte {
			if raw == nil {
				return nil
			}
			return append(b, raw...)
		}), nil
	case []int64:
		return array(pgtype.Int8ArrayOID, pgtype.Int8OID, v, 8*len(v), appendBigint), nil
	case []*int64:
		return array(pgtype.Int8ArrayOID, pgtype.Int8OID, v, 8*len(v), orNull(appendBigint)), nil
	case []int32:
		return array(pgtype.Int4ArrayOID, pgtype.Int4OID, v, 4*len(v), appendInteger), nil
	case []*int32:
		return array(pgtype.Int4ArrayOID, pgtype.Int4OID, v, 4*len(v), orNull(appendInteger)), nil
	case []bool:
		return array(pgtype.BoolArrayOID, pgtype.BoolOID, v, len(v), appendBool), nil
	case []*bool:
		return array(pgtype.BoolArrayOID, pgtype.BoolOID, v, len(v), orNull(appendBool)), nil
	}
	return parameter{}, fmt.Errorf("encoding an argument: a %T is of no known type", arg)
}

func appendText(b []byte, s string) []byte   { return append(b, s...) }
func appendBigint(b []byte, n int64) []byte  { return binary.BigEndian.AppendUint64(b, uint64(n)) }
func appendInteger(b []byte, n int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) }

func appendBool(b []byte, is bool) []byte {
	if is {
		return append(b, 1)
	}
	return append(b, 0)
}

// orNull makes of what encodes an element what encodes a pointer to one, of which nil is NULL.
func orNull[T any](put func([]byte, T) []byte) func([]byte, *T) []byte {
	return func(b []byte, e *T) []byte {
		if e == nil {
			return nil
		}
		return put(b, *e)
	}
}

// array encodes a slice. put appends an element, or returns nil for NULL. bytes is what the
// elements take, about: an array of documents is not to be moved while it grows.
func array[T any](oid, element uint32, v []T, bytes int, put func([]byte, T) []byte) parameter {
	if v == nil {
		return parameter{nil, oid}
	}
	dimensions := uint32(min(len(v), 1))
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 20+4*len(v)+bytes), dimensions)
	b = binary.BigEndian.AppendUint32(b, 0) // there may be NULLs, see below
	b = binary.BigEndian.AppendUint32(b, element)
	if dimensions > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = binary.BigEndian.AppendUint32(b, 1)
	}
	for _, e := range v {
		at := len(b)
		with := put(append(b, 0, 0, 0, 0), e)
		if with == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			b[7] = 1
			continue
		}
		b = with
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return parameter{b, oid}
}
