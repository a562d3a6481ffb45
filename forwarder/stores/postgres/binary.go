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
		return parameter{binary.BigEndian.AppendUint64(nil, uint64(v)), pgtype.Int8OID}, nil
	case []string:
		return array(pgtype.TextArrayOID, pgtype.TextOID, v, func(b []byte, s string) []byte { return append(b, s...) }), nil
	case []*string:
		return array(pgtype.TextArrayOID, pgtype.TextOID, v, func(b []byte, s *string) []byte {
			if s == nil {
				return nil
			}
			return append(b, *s...)
		}), nil
	case [][]byte:
		return array(pgtype.ByteaArrayOID, pgtype.ByteaOID, v, func(b, raw []byte) []byte {
			if raw == nil {
				return nil
			}
			return append(b, raw...)
		}), nil
	case []int64:
		return array(pgtype.Int8ArrayOID, pgtype.Int8OID, v, func(b []byte, n int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) }), nil
	case []*int64:
		return array(pgtype.Int8ArrayOID, pgtype.Int8OID, v, func(b []byte, n *int64) []byte {
			if n == nil {
				return nil
			}
			return binary.BigEndian.AppendUint64(b, uint64(*n))
		}), nil
	case []int32:
		return array(pgtype.Int4ArrayOID, pgtype.Int4OID, v, func(b []byte, n int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) }), nil
	case []*int32:
		return array(pgtype.Int4ArrayOID, pgtype.Int4OID, v, func(b []byte, n *int32) []byte {
			if n == nil {
				return nil
			}
			return binary.BigEndian.AppendUint32(b, uint32(*n))
		}), nil
	case []bool:
		return array(pgtype.BoolArrayOID, pgtype.BoolOID, v, appendBool), nil
	case []*bool:
		return array(pgtype.BoolArrayOID, pgtype.BoolOID, v, func(b []byte, is *bool) []byte {
			if is == nil {
				return nil
			}
			return appendBool(b, *is)
		}), nil
	}
	return parameter{}, fmt.Errorf("encoding an argument: a %T is of no known type", arg)
}

func appendBool(b []byte, is bool) []byte {
	if is {
		return append(b, 1)
	}
	return append(b, 0)
}

// array encodes a slice. put appends an element, or returns nil for NULL.
func array[T any](oid, element uint32, v []T, put func([]byte, T) []byte) parameter {
	if v == nil {
		return parameter{nil, oid}
	}
	dimensions := uint32(min(len(v), 1))
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 20+12*len(v)), dimensions)
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
