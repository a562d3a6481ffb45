package audit

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

// maxFastDepth is how deep values are encoded and decoded here. What lies deeper is left to
// encoding/json, which finds cycles, and which bounds what it decodes.
const maxFastDepth = 64

// appendObject appends a value of Action.Metadata that is an object, in the order of its
// names. At the top depth is 0.
func appendObject(dst []byte, m map[string]any, depth int) (_ []byte, err error) {
	start := len(dst)
	var room [8]string
	for _, name := range sorted(room[:0], m) {
		dst = append(appendText(append(dst, ','), name), ':')
		if dst, err = appendValue(dst, m[name], depth+1); err != nil {
			return nil, err
		}
	}
	return closed(dst, start), nil
}

// appendValue appends what stands in Action.Metadata. What has no case of its own here is
// left to encoding/json, and so is what is an error.
func appendValue(dst []byte, value any, depth int) (_ []byte, err error) {
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case string:
		return appendText(dst, v), nil
	case int:
		return appendInt(dst, int64(v)), nil
	case int64:
		return appendInt(dst, v), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return appendFloat(dst, v), nil
		}
	case json.Number:
		if v != "" && numberLen(string(v)) == len(v) {
			return append(dst, v...), nil
		}
	case []string:
		if v != nil {
			return appendList(dst, v), nil
		}
	case []any:
		if v != nil && depth < maxFastDepth {
			return appendArray(dst, v, depth)
		}
	case map[string]any:
		if v != nil && depth < maxFastDepth {
			return appendObject(dst, v, depth)
		}
	}
	b, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return append(dst, b...), nil
}

func appendArray(dst []byte, list []any, depth int) (_ []byte, err error) {
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendValue(dst, v, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

// appendFloat appends a number that is finite, as ECMAScript writes it.
func appendFloat(dst []byte, f float64) []byte {
	if abs := math.Abs(f); abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); n >= 4 && string(dst[n-4:n-1]) == "e-0" {
		return slices.Delete(dst, n-2, n-1) // 1e-09 is written as 1e-9
	}
	return dst
}

// numberLen is how many bytes of a number in JSON there are at the beginning; 0 if there is
// none.
func numberLen[T string | []byte](s T) int {
	i := 0
	digits := func() bool {
		from := i
		for i < len(s) && s[i]-'0' <= 9 {
			i++
		}
		return i > from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if !digits() {
		return 0
	}
	if i < len(s) && s[i] == '.' {
		if i++; !digits() {
			return 0
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		if i++; i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	return i
}
