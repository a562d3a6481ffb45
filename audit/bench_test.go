package audit

import "testing"

// BenchmarkEntry is what one audited call costs in this package: the intent,
// its JSON, the answer, and its JSON.
func BenchmarkEntry(b *testing.B) {
	d := deriver()
	c := &Call{
		Arrived: arrival(), Method: "DELETE", Host: "api.example.com", Path: "/v1/projects/abcdefghijklmnopqrst/functions/hello",
		Authorization: "Bearer sbp_" + hex40, UserAgent: "cli/1", RequestID: "11111111-1111-4111-8111-111111111111",
		ClientIP: "203.0.113.9", PeerIP: "10.0.0.1", Forwarded: true, Bytes: 10,
	}
	b.ReportAllocs()
	for b.Loop() {
		e, _ := d.Intent(c)
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
		e.Answered(Answer{At: arrival(), Status: 200, Source: StatusWritten, Bytes: 100})
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
