package viewer

import (
	"errors"
	"net/http"
	"time"
)

// writeWait is how long a client may take for one part of an answer before it is let go.
const writeWait = 30 * time.Second

// output writes an answer part by part. A client that takes nothing for writeWait is an
// error, so that it keeps a slot for no longer.
type output struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (v *Viewer) newOutput(w http.ResponseWriter) *output {
	return &output{w, http.NewResponseController(w)}
}

// errGone says that the client is not there any more, which is no fault.
var errGone = errors.New("the client has left")

// maxWrite bounds what one deadline is for.
const maxWrite = 64 << 10

// Write implements io.Writer.
func (o *output) Write(b []byte) (n int, err error) {
	for n < len(b) {
		// Where the connection has no deadlines the server's own must do.
		_ = o.control.SetWriteDeadline(time.Now().Add(writeWait))
		k, err := o.w.Write(b[n:min(len(b), n+maxWrite)])
		n += k
		if err != nil {
			return n, errors.Join(errGone, err)
		}
	}
	return n, nil
}

func (o *output) write(b []byte) error {
	_, err := o.Write(b)
	return err
}

// end takes the deadline back, since the connection may serve another request.
func (o *output) end() { _ = o.control.SetWriteDeadline(time.Time{}) }
