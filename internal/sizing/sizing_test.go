package sizing

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

const day = 24 * time.Hour

func usualInput() *Input {
	return &Input{
		Rate: 10, EntryBytes: 1000, Changing: 0.5, KeepDays: 400, MaxSize: 8 << 30, Free: 1 << 40, MinFree: 256 << 20,
		Stores: []Store{{Name: "sqlite", Kind: "sqlite", SameDisk: true}},
	}
}

func TestSizesAreThoseThatOneComputesByHand(t *testing.T) {
	// 10 entries of 1000 bytes in a second: 2175 bytes each in the buffer, 2100 in SQLite.
	for name, c := range map[string]struct {
		change func(*Input)
		want   func(*Sizes) (got, want float64)
	}{
		"entries of a day":     {nil, func(s *Sizes) (float64, float64) { return s.EntriesPerDay, 864_000 }},
		"JSON of a day":        {nil, func(s *Sizes) (float64, float64) { return s.BytesPerDay, 864e6 }},
		"an entry waits":       {nil, func(s *Sizes) (float64, float64) { return s.BufferBytesPerEntry, 2175 }},
		"the buffer lasts":     {nil, func(s *Sizes) (float64, float64) { return *s.BufferLasts, (8 << 30) / 21750.0 }},
		"what is left lasts":   {func(in *Input) { in.BufferBytes = 6 << 30 }, func(s *Sizes) (float64, float64) { return *s.BufferLasts, (2 << 30) / 21750.0 }},
		"a full one lasts":     {func(in *Input) { in.BufferBytes = 9 << 30 }, func(s *Sizes) (float64, float64) { return *s.BufferLasts, 0 }},
		"a small disk lasts":   {func(in *Input) { in.Free = 1<<30 + 256<<20 }, func(s *Sizes) (float64, float64) { return *s.BufferLasts, (1 << 30) / 21750.0 }},
		"an outage":            {func(in *Input) { in.Outage = day }, func(s *Sizes) (float64, float64) { return float64(s.OutageBytes), 86400 * 21750 }},
		"max_size for it":      {func(in *Input) { in.Outage = day }, func(s *Sizes) (float64, float64) { return float64(s.MaxSizeNeeded), 3 << 30 }},
		"a small one for it":   {func(in *Input) { in.Outage = time.Hour }, func(s *Sizes) (float64, float64) { return float64(s.MaxSizeNeeded), 94 << 20 }},
		"no outage, no size":   {nil, func(s *Sizes) (float64, float64) { return float64(s.MaxSizeNeeded), 0 }},
		"a store's day":        {nil, func(s *Sizes) (float64, float64) { return s.Stores[0].PerDay, 864_000 * 2100 }},
		"a store in the end":   {nil, func(s *Sizes) (float64, float64) { return *s.Stores[0].AtEnd, 400 * 864_000 * 2100 }},
		"the disk is missing":  {func(in *Input) { in.Free = 100 << 30 }, func(s *Sizes) (float64, float64) { return float64(s.DiskShort), 400*864_000*2100 - (92<<30 - 256<<20) }},
		"the disk is full in":  {func(in *Input) { in.Free = 100 << 30 }, func(s *Sizes) (float64, float64) { return *s.DiskFull, (92<<30 - 256<<20) / 21000.0 }},
		"for ever needs all":   {func(in *Input) { in.KeepDays = 0 }, func(s *Sizes) (float64, float64) { return float64(s.DiskShort), -1 }},
		"too small as it is":   {func(in *Input) { in.Free = 1 << 30 }, func(s *Sizes) (float64, float64) { return *s.DiskFull, 0 }},
		"too small, no growth": {func(in *Input) { in.Free, in.Stores = 1<<30, nil }, func(s *Sizes) (float64, float64) { return *s.DiskFull, 0 }},
		"what is there counts": {func(in *Input) { in.Free, in.Stores[0].Bytes = 9<<30, 400*864_000*2100 }, func(s *Sizes) (float64, float64) { return float64(s.DiskShort), 0 }},
	} {
		in := usualInput()
		if c.change != nil {
			c.change(in)
		}
		if got, want := c.want(Compute(in)); math.Abs(got-want) > 1 {
			t.Errorf("%s: %.1f, want %.1f", name, got, want)
		}
	}
}

func TestWhatNeverEndsIsNotGivenAnEnd(t *testing.T) {
	in := usualInput()
	in.Rate = 0
	s := Compute(in)
	if s.BufferLasts != nil || s.DiskFull != nil || s.DiskShort != 0 {
		t.Errorf("without entries: %+v", s)
	}
	if s = Compute(usualInput()); s.DiskFull != nil || s.DiskShort != 0 { // 676 GiB of 1 TiB
		t.Errorf("it fits, and is full: %+v", s)
	}
	in = usualInput()
	in.Stores[0].SameDisk = false
	if s = Compute(in); s.DiskFull != nil {
		t.Error("a store on another disk fills this one")
	}
	in.Free = -1
	if s = Compute(in); s.DiskFull != nil || s.DiskFirst {
		t.Error("a disk that is not known is known")
	}
	in.Stores = []Store{{Name: "siem", Kind: "http", SameDisk: true}}
	if s = Compute(in); s.Stores[0].Measured || s.Stores[0].SameDisk || s.Stores[0].AtEnd != nil || s.Stores[0].PerEntry != 1000 {
		t.Errorf("what is sent away: %+v", s.Stores[0])
	}
}

// However much or little there is: nothing is negative or no number, more entries never last
// longer, and a larger max_size never shorter.
func TestSizesKeepTheirOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	some := func(most float64) float64 { return math.Exp(rng.Float64()*math.Log(most+1)) - 1 }
	lasts := func(s *Sizes) float64 {
		if s.BufferLasts == nil {
			return math.Inf(1)
		}
		return *s.BufferLasts
	}
	for range 10_000 {
		in := &Input{
			Rate: some(1e7), EntryBytes: some(1 << 20), Changing: rng.Float64(), Outage: time.Duration(some(1e18)), KeepDays: some(1e5),
			MaxSize: int64(some(1 << 60)), BufferBytes: int64(some(1 << 60)), Free: int64(some(1<<60)) - 1, MinFree: int64(some(1 << 50)),
			Stores: []Store{{Kind: "sqlite", SameDisk: rng.IntN(2) == 0, Bytes: int64(some(1 << 60))}, {Kind: "postgres"}, {Kind: "file", SameDisk: true}},
		}
		s := Compute(in)
		for _, v := range []float64{s.EntriesPerDay, s.BytesPerDay, s.BufferBytesPerEntry, lasts(s), float64(s.OutageBytes), float64(s.MaxSizeNeeded), s.Stores[0].PerDay} {
			if v < 0 || math.IsNaN(v) {
				t.Fatalf("%+v gives %+v", in, s)
			}
		}
		if s.MaxSizeNeeded < s.OutageBytes || s.DiskFull != nil && *s.DiskFull < 0 || s.DiskShort < -1 {
			t.Fatalf("%+v gives %+v", in, s)
		}
		more, larger := *in, *in
		more.Rate *= 2
		larger.MaxSize *= 2
		if lasts(Compute(&more)) > lasts(s) || lasts(Compute(&larger)) < lasts(s) {
			t.Fatalf("%+v: the order is lost", in)
		}
	}
}

func TestATimeIsSpeltInTheUnitsThatMatter(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "0s", 59: "59s", 61: "1m1s", 3661: "1h 1m", 90_000: "1d 1h", 86400 * 14: "14 days", 86400 * 731: "2.0 years",
	} {
		if got := display.Spell(seconds); got != want {
			t.Errorf("%g seconds are %q, want %q", seconds, got, want)
		}
	}
}
