package caddymodule

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin serves the routes that `caddy audit` asks on Caddy's admin endpoint.
// Who may reach that endpoint may read every entry: keep it on a unix socket.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.audit_log", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: operator.StatusPath, Handler: reading(http.MethodGet, (*App).serveStatus)},
		{Pattern: operator.ExportPath, Handler: reading(http.MethodGet, (*App).serveExport)},
		{Pattern: operator.TailPath, Handler: reading(http.MethodGet, (*App).serveTail)},
		{Pattern: operator.QuarantinePath, Handler: reading(http.MethodGet, (*App).serveQuarantine)},
		{Pattern: operator.ResolvePath, Handler: reading(http.MethodPost, (*App).serveResolve)},
		{Pattern: operator.RetentionPath, Handler: reading(http.MethodGet, (*App).serveRetention)},
		{Pattern: operator.HoldPath, Handler: reading(http.MethodPost, (*App).serveHold)},
		{Pattern: operator.VerifyPath, Handler: reading(http.MethodGet, (*App).serveVerify)},
		{Pattern: operator.PassPath, Handler: reading(http.MethodPost, (*App).servePass)},
		{Pattern: operator.SearchPath, Handler: reading(http.MethodPost, (*App).serveSearch)},
	}
}

// reading finds the running app, which a reload may have changed since the
// last request.
func reading(method string, serve func(*App, http.ResponseWriter, *http.Request) error) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != method {
			w.Header().Set("Allow", method)
			return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed: use " + method)}
		}
		app := running.await(r.Context())
		warnIfExposed(r, app)
		if app == nil {
			return caddy.APIError{
				HTTPStatus: http.StatusNotFound,
				Err:        errors.New("the running configuration has no audit_log: add the directive to a site"),
			}
		}
		return serve(app, w, r)
	})
}

var exposed sync.Once

// warnIfExposed says once that the endpoint listens beyond this machine: it
// has no authentication of its own.
func warnIfExposed(r *http.Request, app *App) {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if ok && !local.IP.IsLoopback() && app != nil {
		exposed.Do(func() {
			app.log.Warn("the admin endpoint can be reached over the network, and with it every entry and the configuration: put it on a unix socket",
				"address", local.String())
		})
	}
}

// readOrder reads the body of a request that changes something: one JSON object of up to
// so many bytes, without a member that nobody knows.
func readOrder(w http.ResponseWriter, r *http.Request, limit int64, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("reading the order: %w", err)
	}
	return nil
}

func (a *App) serveStatus(w http.ResponseWriter, _ *http.Request) error {
	s, ok := a.status()
	if !ok {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: errors.New("the audit buffer is not open")}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(s)
}

func (a *App) serveExport(w http.ResponseWriter, r *http.Request) error {
	q, err := operator.ParseQuery(r.URL.Query().Get)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	reader, err := a.stores.OpenReader(r.Context())
	if err != nil {
		return err
	}
	defer reader.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	return stream(w, func(emit func([]byte) error) error {
		for doc, err := range reader.Read(r.Context(), q) {
			if err == nil {
				err = emit(doc)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// stream writes lines. Once one has left, an error cuts the connection, so
// that half an answer is never taken for a whole one.
func stream(w http.ResponseWriter, produce func(emit func([]byte) error) error) error {
	out := bufio.NewWriterSize(w, 64<<10)
	begun := false
	err := produce(func(doc []byte) error {
		begun = true
		_, _ = out.Write(doc)
		return out.WriteByte('\n') // an error stays with the writer
	})
	if err != nil && !begun {
		return err
	}
	if err != nil || out.Flush() != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// serveTail writes the newest entries and, when asked to follow, each further
// one as soon as it is durable, before any store has it.
func (a *App) serveTail(w http.ResponseWriter, r *http.Request) error {
	n := 10
	if v := r.URL.Query().Get("n"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 0 || n > operator.MaxTail {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("n %q is not a number from 0 to %d", v, operator.MaxTail)}
		}
	}
	s, err := a.hold()
	if err != nil {
		return err
	}
	defer s.release()
	ctx, head := r.Context(), s.buf.Stats().Head
	lines, err := a.newest(ctx, s.buf, head, n)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if r.URL.Query().Get("follow") == "" {
		sendLines(w, lines)
		return nil
	}
	return follow(ctx, w, s.buf, head, lines)
}

// follow goes on until the client leaves or the buffer closes.
func follow(ctx context.Context, w http.ResponseWriter, b *buffer.Buffer, after uint64, lines [][]byte) error {
	for sendLines(w, lines) && comes(ctx, b, after) {
		var err error
		if lines, err = bufferLines(b, after+1, operator.MaxTail); err != nil {
			panic(http.ErrAbortHandler) // the answer has begun: cut it
		}
		after += uint64(len(lines))
	}
	return nil
}

// comes waits for a further entry, and reports false when none will come.
func comes(ctx context.Context, b *buffer.Buffer, after uint64) bool {
	_, err := b.Wait(ctx, after)
	return err == nil
}

// sendLines reports whether the client is still there.
func sendLines(w http.ResponseWriter, lines [][]byte) bool {
	for _, line := range lines {
		if _, err := w.Write(append(line, '\n')); err != nil {
			return false
		}
	}
	return http.NewResponseController(w).Flush() == nil
}

// newest returns the last n entries, oldest first: those that the buffer still
// holds, and before them what the store has.
func (a *App) newest(ctx context.Context, b *buffer.Buffer, head uint64, n int) ([][]byte, error) {
	from := max(b.Stats().Oldest, head+1-min(head, uint64(n)))
	lines, err := bufferLines(b, from, int(head+1-from))
	if err != nil || len(lines) >= n {
		return lines, err
	}
	reader, readErr := a.stores.OpenReader(ctx)
	if readErr != nil {
		return lines, nil // the buffer's own entries are better than none
	}
	defer reader.Close()
	var stored [][]byte
	for doc, err := range reader.Read(ctx, forwarder.Query{NewestFirst: true, Limit: n + len(lines)}) {
		if err != nil {
			return nil, err
		}
		if e, err := audit.Decode(doc); err == nil && e.Origin != nil &&
			(e.Origin.Instance != b.Instance(e.Origin.Sequence) || e.Origin.Sequence < from) && len(stored)+len(lines) < n {
			stored = append(stored, slices.Clone(doc))
		}
	}
	slices.Reverse(stored)
	return append(stored, lines...), nil
}

// bufferLines returns up to n of the buffer's entries with their origin.
func bufferLines(b *buffer.Buffer, from uint64, n int) (lines [][]byte, err error) {
	if n <= 0 {
		return nil, nil
	}
	readErr := b.ReadPast(from, func(sequence uint64, payload []byte) bool {
		var r forwarder.Record
		if r, err = forwarder.NewRecord(b.Instance(sequence), sequence, payload); err != nil {
			return false
		}
		lines = append(lines, r.JSON)
		return len(lines) < n
	}, func(*buffer.DamagedError) {}) // a gap tells of them
	return lines, errors.Join(err, readErr)
}

// Interface guard
var _ caddy.AdminRouter = Admin{}
