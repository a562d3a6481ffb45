package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
)

// maxLiveAnswer bounds what is read of a server's answer, in bytes.
const maxLiveAnswer = 64 << 20

// liveStatus asks the running server, and never looks at the files: reading those takes the
// buffer's lock, at which a server that starts just then would fail.
func (p *place) liveStatus(ctx context.Context) (*operator.Status, error) {
	body, err := p.get(ctx, operator.StatusPath, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	s := new(operator.Status)
	if err := json.NewDecoder(io.LimitReader(body, maxLiveAnswer)).Decode(s); err != nil {
		return nil, fmt.Errorf("reading the server's status: %w", err)
	}
	return s, nil
}

// liveEntry is an entry as the server shows it, and how many bytes of JSON that is.
type liveEntry struct {
	*audit.Entry
	bytes int
}

// newest are the last entries that are durable, oldest first.
func (p *place) newest(ctx context.Context, n int) (list []liveEntry, err error) {
	body, err := p.get(ctx, operator.TailPath, url.Values{"n": {strconv.Itoa(n)}})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	err = eachLine(io.LimitReader(body, maxLiveAnswer), func(doc []byte) error {
		e, err := audit.Decode(doc)
		if err == nil {
			list = append(list, liveEntry{e, len(doc)})
		}
		return err
	})
	return list, err
}

// errReadEnough ends the reading of an answer whose rest is not wanted.
var errReadEnough = errors.New("enough is read")

// firstSince is the oldest stored entry since a time that the running buffer has recorded,
// and nil if none of the first thousand is.
func (p *place) firstSince(ctx context.Context, since time.Time, instance string) (first *audit.Entry, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // or the server goes on to send all of them
	body, err := p.get(ctx, operator.ExportPath, url.Values{"from": {since.UTC().Format(time.RFC3339)}})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	seen := 0
	err = eachLine(io.LimitReader(body, maxLiveAnswer), func(doc []byte) error {
		e, err := audit.Decode(doc)
		if err != nil {
			return err
		}
		if e.Origin != nil && e.Origin.Instance == instance {
			first = e
			return errReadEnough
		}
		if seen++; seen == operator.MaxTail {
			return errReadEnough
		}
		return nil
	})
	if errors.Is(err, errReadEnough) {
		err = nil
	}
	return first, err
}
