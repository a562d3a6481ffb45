package sizing

import (
	"math"
	"time"
)

// What bench/size has measured: an entry takes so many times its JSON, and so many bytes
// beside. docs/sizing.md has the command and its figures, and what of them is rounded up.
const (
	// SampleEntryBytes is the mean of the sample's entries as they are stored, and
	// SampleChanging the share of its calls that have an intent: for who knows none of
	// their own. StampBytes is what of an entry is added when it is delivered.
	SampleEntryBytes = 1440
	SampleChanging   = 0.26
	StampBytes       = 180
	// bufferTimes is what an entry or an intent takes of the buffer where most commits have
	// one of them alone. Where dozens share a commit it is 1.
	bufferTimes = 1.45
)

// growth is what an entry takes in a kind of store.
type growth struct {
	times, beyond float64
	// local says that it lies on a disk of this machine.
	local bool
}

var growths = map[string]growth{
	"sqlite":   {times: 1, beyond: 1100, local: true},
	"postgres": {times: 1, beyond: 1200},
	"file":     {times: 1, beyond: 1, local: true},
	"s3":       {times: 0.2}, // the sample's takes half of that: it is made up of few words
}

// IsLocal reports whether a kind of store lies on a disk of this machine.
func IsLocal(kind string) bool { return growths[kind].local }

const (
	// margin is what max_size is to be above what an outage takes: the mean of a day
	// is not its noon, and what stores have taken is given back a segment at a time.
	margin       = 1.25
	secondsOfDay = 24 * 60 * 60
)

// Input is what sizes are computed from. Bytes are bytes, and what is zero is not
// known, unless it says something else.
type Input struct {
	// Rate is how many entries there are in a second.
	Rate float64 `json:"entries_per_second"`
	// EntryBytes is the mean of their JSON.
	EntryBytes float64 `json:"entry_bytes"`
	// Changing is the share of calls with an intent, which stands in the buffer beside the
	// entry, 0 to 1.
	Changing float64 `json:"changing"`
	// Outage is for how long every store may be away; zero asks nothing.
	Outage time.Duration `json:"-"`
	// KeepDays is how long entries are kept; zero is for ever.
	KeepDays float64 `json:"keep_days,omitempty"`
	MaxSize  int64   `json:"max_size"`
	// BufferBytes is what of MaxSize is in use already.
	BufferBytes int64 `json:"buffer_bytes,omitempty"`
	// Free is what the buffer's file system has left, -1 if that is not known, and MinFree
	// what of it is for others.
	Free    int64   `json:"free_bytes"`
	MinFree int64   `json:"min_free"`
	Stores  []Store `json:"-"`
}

// Store is a store, by its name and kind. SameDisk says that it grows on the buffer's
// file system, and Bytes is what it has there already.
type Store struct {
	Name, Kind string
	SameDisk   bool
	Bytes      int64
}

// Sizes are the answers. A duration is in seconds, and absent where there is no end.
type Sizes struct {
	EntriesPerDay float64 `json:"entries_per_day"`
	BytesPerDay   float64 `json:"bytes_per_day"`

	BufferBytesPerEntry float64 `json:"buffer_bytes_per_entry"`
	BufferBytesPerDay   float64 `json:"buffer_bytes_per_day"`
	// BufferLasts is how long max_size lasts from now on if no store takes anything, or the
	// disk, where that has less: then DiskFirst.
	BufferLasts *float64 `json:"buffer_lasts_seconds,omitempty"`
	DiskFirst   bool     `json:"disk_is_full_first,omitempty"`
	// OutageBytes is what the wished outage takes, and MaxSizeNeeded what max_size should be
	// for it; 0 if none was asked for.
	OutageBytes   int64 `json:"outage_bytes,omitempty"`
	MaxSizeNeeded int64 `json:"max_size_needed,omitempty"`

	Stores []StoreSize `json:"stores"`
	// DiskFull is when the buffer's file system will have no more than min_free and what
	// the buffer may need, as the stores on it grow; absent if never, or if it is not known.
	DiskFull *float64 `json:"disk_full_seconds,omitempty"`
	// DiskShort is how much is missing at the end, when as much expires as comes; 0 if
	// there is enough, -1 if it grows for ever.
	DiskShort int64 `json:"disk_short_bytes,omitempty"`
}

// StoreSize is how one store grows.
type StoreSize struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Measured is false for a kind whose disk is somebody else's; then PerEntry is what is
	// sent.
	Measured bool    `json:"measured"`
	SameDisk bool    `json:"same_disk"`
	PerEntry float64 `json:"bytes_per_entry"`
	PerDay   float64 `json:"bytes_per_day"`
	// AtEnd is what it has once as much expires as comes; absent where nothing does.
	AtEnd *float64 `json:"bytes_at_end,omitempty"`
}

// Compute computes. It looks at nothing but its input.
func Compute(in *Input) *Sizes {
	perDay := in.Rate * secondsOfDay
	s := &Sizes{EntriesPerDay: perDay, BytesPerDay: perDay * in.EntryBytes, Stores: []StoreSize{}}
	s.BufferBytesPerEntry = in.EntryBytes * bufferTimes * (1 + in.Changing)
	s.BufferBytesPerDay = perDay * s.BufferBytesPerEntry
	s.buffer(in)
	for _, store := range in.Stores {
		s.Stores = append(s.Stores, in.grows(store, perDay))
	}
	if in.Free >= 0 {
		s.disk(in)
	}
	return s
}

func (s *Sizes) buffer(in *Input) {
	perSecond := in.Rate * s.BufferBytesPerEntry
	room := float64(max(0, in.MaxSize-in.BufferBytes))
	if free := float64(max(0, in.Free-in.MinFree)); in.Free >= 0 && free < room {
		room, s.DiskFirst = free, true
	}
	s.BufferLasts = secondsUntil(room, perSecond)
	if in.Outage > 0 {
		bytes := in.Outage.Seconds() * perSecond
		s.OutageBytes, s.MaxSizeNeeded = ClampBytes(bytes), roundedSize(bytes*margin)
	}
}

func (in *Input) grows(store Store, perDay float64) StoreSize {
	g, measured := growths[store.Kind]
	if !measured {
		g = growth{times: 1}
	}
	one := StoreSize{Name: store.Name, Kind: store.Kind, Measured: measured, SameDisk: store.SameDisk && g.local}
	one.PerEntry = in.EntryBytes*g.times + g.beyond
	one.PerDay = perDay * one.PerEntry
	if in.KeepDays > 0 && measured {
		end := one.PerDay * in.KeepDays
		one.AtEnd = &end
	}
	return one
}

// disk says when the file system will be full. What the buffer may still need is set apart:
// it may need it on any day.
func (s *Sizes) disk(in *Input) {
	room := float64(in.Free - in.MinFree - max(0, in.MaxSize-in.BufferBytes))
	var perSecond, end float64
	for i, store := range s.Stores {
		if !store.SameDisk {
			continue
		}
		perSecond += store.PerDay / secondsOfDay
		if store.AtEnd == nil {
			end = math.Inf(1)
		} else {
			end += max(0, *store.AtEnd-float64(in.Stores[i].Bytes))
		}
	}
	if room >= end || perSecond == 0 && room >= 0 {
		return
	}
	s.DiskFull = secondsUntil(max(0, room), perSecond)
	if s.DiskFull == nil {
		s.DiskFull = new(float64) // nothing grows, and there is too little as it is
	}
	s.DiskShort = -1
	if !math.IsInf(end, 1) {
		s.DiskShort = ClampBytes(end - room)
	}
}

// secondsUntil is how long room lasts; nil is for ever.
func secondsUntil(room, perSecond float64) *float64 {
	if perSecond <= 0 {
		return nil
	}
	seconds := room / perSecond
	// A thousand years are as good as for ever, and a time.Duration has no more than 292.
	if seconds > 1000*365*secondsOfDay {
		return nil
	}
	return &seconds
}

// roundedSize is a size that one writes: whole MiB below 1 GiB, and whole GiB above.
func roundedSize(bytes float64) int64 {
	unit := float64(1 << 20)
	if bytes > 1<<30 {
		unit = 1 << 30
	}
	return ClampBytes(math.Ceil(bytes/unit) * unit)
}

// ClampBytes is a whole number of bytes that fits.
func ClampBytes(bytes float64) int64 {
	switch {
	case math.IsNaN(bytes) || bytes <= 0:
		return 0
	case bytes > 1<<62:
		return 1 << 62
	}
	return int64(math.Ceil(bytes))
}
