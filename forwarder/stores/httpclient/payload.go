package httpclient

import (
	"errors"
	"io"
	"sync"
)

// payload is a body on its way. The transport may go on reading it after it has
// returned, so it reads through a lock, and nothing more once the payload is taken back.
type payload struct {
	mu       sync.Mutex
	data     []byte
	complete bool
}

var errTakenBack = errors.New("the request is over")

// reader returns the body from its beginning, for one more attempt.
func (p *payload) reader() io.ReadCloser {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complete = false
	return &payloadReader{payload: p}
}

// takeBack ends all reading and says whether the whole body was read in the last attempt.
func (p *payload) takeBack() (complete bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = nil
	return p.complete
}

type payloadReader struct {
	payload *payload
	offset  int
	ended   bool
}

func (r *payloadReader) Read(b []byte) (int, error) {
	p := r.payload
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.ended {
		// The transport asks once more, to see that there is nothing, and perhaps after the
		// answer has come. An error would cost the connection.
		return 0, io.EOF
	}
	if p.data == nil {
		return 0, errTakenBack
	}
	n := copy(b, p.data[r.offset:])
	r.offset += n
	if r.offset == len(p.data) {
		p.complete, r.ended = true, true
		return n, io.EOF
	}
	return n, nil
}

func (*payloadReader) Close() error { return nil }
