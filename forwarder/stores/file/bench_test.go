package file

import (
	"fmt"
	"testing"
)

// BenchmarkWrite is the pace of batches, each with its sync.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1, 250, 5000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := open(b, Config{Path: newPath(b)})
			batch := records(1, size)
			b.SetBytes(int64(len(appendLines(nil, batch))))
			for b.Loop() {
				if err := s.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
