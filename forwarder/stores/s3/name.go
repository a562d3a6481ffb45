package s3

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What lies below the prefix of a store. docs/s3.md describes it for readers.
const (
	// entriesDir has the objects with entries.
	entriesDir = "entries/"
	// manifestsDir has a list of each day's objects.
	manifestsDir = "manifests/"
	// markerName says what the prefix is. Whoever opens the store asks for it to be made.
	markerName = "audit-store.json"

	suffix = ".ndjson.zst"
)

const (
	dayForm  = "2006/01/02"
	timeForm = "20060102T150405Z"
)

// object is what an object's name says: whose entries it has and which, when they
// arrived, and the hash of what is in it. So a listing alone shows whether something is
// missing, and whether an object is what its name says can be seen of its content.
//
// The hash makes that two different contents never have one name. A repeat of an upload
// has its name, so the server refuses it; whoever may write to the bucket cannot take a
// name before us, since it would have to know what we write.
type object struct {
	// class is the retention class.
	class    string
	instance string
	// day is that on which the name was chosen, in UTC, or a later one: never before the
	// day on which any of the entries arrived, and never one whose manifest is written.
	day time.Time
	// first and last are sequences, and entries how many of those between them it has,
	// both ends included. Others belong to other classes, are not for this store, or
	// were in other objects before.
	first, last uint64
	entries     int
	// from and to are the first and the last arrival, to the second.
	from, to time.Time
	// sum is the SHA-256 of the entries, each with a newline behind it, in hex.
	sum string
	// try is how many names of these entries were taken by void objects before.
	try int
}

// name is the object's name below entriesDir.
func (o object) name() string {
	try := ""
	if o.try > 0 {
		try = fmt.Sprintf("-%d", o.try)
	}
	return fmt.Sprintf("%s/%s/%s/%020d-%020d-%d-%s-%s-%s%s%s", escape(o.class), escape(o.instance), o.day.Format(dayForm),
		o.first, o.last, o.entries, o.from.Format(timeForm), o.to.Format(timeForm), o.sum, try, suffix)
}

// parseName reads a name below entriesDir. It is strict: what it takes is what name
// makes, so that two texts are never the same object.
func parseName(s string) (o object, ok bool) {
	parts := strings.Split(s, "/")
	if len(parts) != 6 || !strings.HasSuffix(s, suffix) {
		return o, false
	}
	var err error
	if o.class, err = url.PathUnescape(parts[0]); err != nil {
		return o, false
	}
	if o.instance, err = url.PathUnescape(parts[1]); err != nil {
		return o, false
	}
	if o.day, err = time.Parse(dayForm, strings.Join(parts[2:5], "/")); err != nil {
		return o, false
	}
	fields := strings.Split(strings.TrimSuffix(parts[5], suffix), "-")
	if len(fields) == 7 {
		if o.try, err = strconv.Atoi(fields[6]); err != nil || o.try <= 0 {
			return o, false
		}
		fields = fields[:6]
	}
	if len(fields) != 6 {
		return o, false
	}
	if o.first, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return o, false
	}
	if o.last, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return o, false
	}
	if o.entries, err = strconv.Atoi(fields[2]); err != nil {
		return o, false
	}
	if o.from, err = time.Parse(timeForm, fields[3]); err != nil {
		return o, false
	}
	if o.to, err = time.Parse(timeForm, fields[4]); err != nil {
		return o, false
	}
	o.sum = fields[5]
	if b, err := hex.DecodeString(o.sum); err != nil || len(b) != 32 {
		return o, false
	}
	span := o.last - o.first
	return o, o.first <= o.last && o.entries > 0 && uint64(o.entries-1) <= span && o.name() == s
}

// escape makes one part of a path of a text.
func escape(s string) string {
	switch s {
	case "", ".", "..":
		return map[string]string{"": "%00", ".": "%2E", "..": "%2E%2E"}[s]
	}
	return url.PathEscape(s)
}

// unescape reads what escape has made.
func unescape(s string) (string, bool) {
	text, err := url.PathUnescape(s)
	return text, err == nil && escape(text) == s
}

// dayOf is the beginning of a time's day, in UTC.
func dayOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
