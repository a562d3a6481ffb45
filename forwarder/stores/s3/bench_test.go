package s3

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"testing"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// nowhere takes everything and keeps nothing.
type nowhere struct{}

func (nowhere) put(context.Context, string, []byte, map[string]string, time.Time, bool) error {
	return nil
}

func (nowhere) head(context.Context, string) (info, error) { return info{}, errNotFound }

func (nowhere) get(context.Context, string) (io.ReadCloser, error) { return nil, errNotFound }

func (nowhere) list(context.Context, string, string) iter.Seq2[info, error] {
	return func(func(info, error) bool) {}
}

func (nowhere) prefixes(context.Context, string) iter.Seq2[string, error] {
	return func(func(string, error) bool) {}
}

// BenchmarkWrite is what an object of 5000 entries costs on this side.
func BenchmarkWrite(b *testing.B) {
	var batch []forwarder.Record
	for n := range 5000 {
		batch = append(batch, entry{n: n + 1, text: "some/path/of/a/project"}.make(b))
	}
	s := newStore(Config{}, target{}, nowhere{}, slog.New(slog.DiscardHandler))
	s.KeepNotes(new(memoryNotes))
	size := 0
	for _, r := range batch {
		size += len(r.JSON)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		for i := range batch {
			batch[i].Sequence += 5000
		}
	}
}
