package otlp

import (
	"context"
	"fmt"
	"net/http"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

// What a message costs beside its records, in bytes: the tag and the length of a record,
// and resource and scope with room to spare.
const (
	recordCost   = 8
	resourceCost = 1 << 10
)

// part is what is posted at once.
type part struct {
	message     *collogspb.ExportLogsServiceRequest
	first, last uint64
	size        int
	instance    string
}

// Write posts the batch, as one request unless it is more than MaxBody takes. It ends
// soon after ctx and after the timeout for each request.
func (s *Store) Write(ctx context.Context, batch []forwarder.Record) error {
	var requests []httpclient.Request
	for _, p := range divide(batch, s.c.HTTP.MaxBody) {
		requests = append(requests, httpclient.Request{
			First: p.first, Last: p.last,
			Fill: func(h http.Header, _ func(string) (string, error), _ *httpclient.Secrets) ([]byte, error) {
				return s.fill(h, p.message)
			},
		})
	}
	return s.client.Post(ctx, requests...)
}

// divide makes the messages of a batch, none larger than the receiver takes unless an
// entry is. The order stays: where the instance changes, another resource begins.
func divide(batch []forwarder.Record, maxBody int) (parts []*part) {
	var p *part
	for _, r := range batch {
		record := logRecord(r)
		size := recordCost
		if maxBody > 0 {
			size += proto.Size(record)
		}
		if p == nil || maxBody > 0 && p.size+size+resourceCost > maxBody {
			p = &part{message: new(collogspb.ExportLogsServiceRequest), first: r.Sequence, last: r.Sequence}
			parts = append(parts, p)
		}
		p.add(record, r, size)
	}
	return parts
}

func (p *part) add(record *logspb.LogRecord, r forwarder.Record, size int) {
	all := p.message.GetResourceLogs()
	if from := instance(r); len(all) == 0 || from != p.instance {
		all = append(all, resourceLogs(from))
		p.message.ResourceLogs, p.instance = all, from
		p.size += resourceCost
	}
	scope := all[len(all)-1].GetScopeLogs()[0]
	scope.LogRecords = append(scope.LogRecords, record)
	p.size += size
	p.first, p.last = min(p.first, r.Sequence), max(p.last, r.Sequence)
}

// fill makes the body of a message.
func (s *Store) fill(h http.Header, message *collogspb.ExportLogsServiceRequest) (body []byte, err error) {
	s.body.Begin()
	if s.body.Plain, err = (proto.MarshalOptions{}).MarshalAppend(s.body.Plain, message); err != nil {
		return nil, fmt.Errorf("encoding the entries: %w", err)
	}
	if err := s.body.Compress(s.c.Compress); err != nil {
		return nil, err
	}
	h.Set("Content-Type", mediaProtobuf)
	if s.c.Compress != httpclient.CompressNone {
		h.Set("Content-Encoding", s.c.Compress)
	}
	return s.body.Sent, nil
}
