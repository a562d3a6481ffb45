package s3

import (
	"bytes"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func FuzzName(f *testing.F) {
	for _, o := range []object{
		describeForFuzz(f, entry{n: 1}), describeForFuzz(f, entry{n: 1 << 40, class: "a/b%.."}), describeForFuzz(f, entry{n: 7, instance: "0198c0de-0000-7000-8000-00000000000/"}),
	} {
		f.Add(o.name())
		o.try = 3
		f.Add(o.name())
	}
	f.Add("default/i/2026/01/01/1-1-1-a-b-c.ndjson.zst")
	f.Fuzz(func(t *testing.T, name string) {
		if o, ok := parseName(name); ok && o.name() != name {
			t.Errorf("%q is read as %q", name, o.name())
		}
	})
}

func describeForFuzz(t testing.TB, x entry) object {
	r := []forwarder.Record{x.make(t)}
	o := describe(r, plain(r))
	o.day = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	if got, ok := parseName(o.name()); !ok || got != o {
		t.Fatalf("%q is not read as what it is: %+v", o.name(), got)
	}
	return o
}

func FuzzObject(f *testing.F) {
	r := []forwarder.Record{entry{n: 1}.make(f), entry{n: 2}.make(f)}
	body := plain(r)
	f.Add(encoder.EncodeAll(body, nil))
	f.Add(encoder.EncodeAll(body[:len(body)-1], nil))
	f.Add([]byte{})
	o := describe(r, body)
	f.Fuzz(func(t *testing.T, compressed []byte) {
		var got []byte
		err := o.eachEntry(bytes.NewReader(compressed), func(doc []byte) error {
			got = append(append(got, doc...), '\n')
			return nil
		})
		if err == nil && !bytes.Equal(got, body) {
			t.Errorf("%q passes for the object", got)
		}
	})
}

func FuzzTarget(f *testing.F) {
	f.Add("https://s3.example.com/audit/a", "")
	f.Add("s3://audit/a", "eu-central-1")
	f.Add("s3://audit/a", "EU-CENTRAL-1")
	f.Fuzz(func(t *testing.T, url, region string) {
		a, err := parseTarget(url, region)
		if err != nil {
			return
		}
		b, err := parseTarget(a.location(), region)
		if err != nil || a.location() != b.location() {
			t.Errorf("%q is %q, and that is %q, %v", url, a.location(), b.location(), err)
		}
	})
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"object":"default/i/x","closed":"2026-01-01"}`))
	f.Add([]byte(`{"object":"","settled":true}`))
	f.Add([]byte("nonsense"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newStore(Config{}, target{}, nowhere{}, discard)
		s.KeepNotes(&memoryNotes{b})
		if err := s.Write(t.Context(), []forwarder.Record{entry{n: 1}.make(t)}); err != nil {
			t.Error(err)
		}
	})
}
