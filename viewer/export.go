package viewer

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

const (
	// exportsEach bounds the exports, and lists without a limit, of one visitor at a time.
	exportsEach = 4
	// maxExport bounds limit of an export.
	maxExport = 100_000_000
)

// The headers of an export. The last three are trailers (RFC 9110, section 6.5): they are
// there if the export is whole, and only then.
const (
	headerID       = "Audit-Id"             // of the entry that says that it was made
	headerComplete = "Audit-Complete-Until" // see listEnd
	trailerEntries = "Audit-Entries"
	trailerSHA256  = "Audit-Sha256" // of the file's bytes, before any compression
	trailerCursor  = "Audit-Next-Cursor"
)

// export is one that is under way.
type export struct {
	format  *format
	in      *visit
	entries int
	bytes   int64
	sum     hash.Hash // of all bytes of the file
	lines   hash.Hash // of the entries as ndjson
	out     io.Writer
}

// serveExport sends the entries of a range as a file, oldest first. That it is made is an
// entry, durable before the first byte; a second revision of it says how it ended, how many
// entries went out, and the file's SHA-256.
func (v *Viewer) serveExport(w http.ResponseWriter, r *http.Request) (err error) {
	in, err := v.enter(r)
	if err != nil {
		return err
	}
	a, err := v.parseExport(r)
	if err != nil {
		return err
	}
	q, err := a.query(in)
	if err != nil {
		return err
	}
	q.NewestFirst = false
	if q.After, err = v.afterOf(&q, a.ask); err != nil {
		return err
	}
	if a.after != "" {
		e, _, err := v.find(r, in, a.after)
		if err != nil {
			return err
		}
		q.After = forwarder.Place{Timestamp: e.Timestamp, ID: e.ID}
	}
	leave, err := v.exports.admit(in.Visitor)
	if err != nil {
		return err
	}
	defer leave()
	until, _, err := v.trust(r.Context(), &q)
	if err != nil {
		return err
	}
	facts := a.facts("export")
	facts["format"] = a.format.name
	note := v.event(audit.EventExported, in, facts)
	note.Outcome = audit.OutcomeUnknown // which it stays if we are killed
	if err := v.record(note); err != nil {
		return err
	}
	a.header(w.Header(), in)
	w.Header().Set(headerID, note.ID)
	if until != nil {
		w.Header().Set(headerComplete, until.Format(time.RFC3339))
	}
	x := &export{format: a.format, in: in, sum: sha256.New(), lines: sha256.New()}
	next, err := v.sendExport(w, r, a, x, q)
	v.ended(note, x, err)
	if err != nil {
		return err
	}
	w.Header().Set(trailerEntries, strconv.Itoa(x.entries))
	w.Header().Set(trailerSHA256, hex.EncodeToString(x.sum.Sum(nil)))
	if next != "" {
		w.Header().Set(trailerCursor, next)
	}
	return nil
}

// sendExport writes the file, and returns the cursor behind its last entry, if there may be
// further ones.
func (v *Viewer) sendExport(w http.ResponseWriter, r *http.Request, a *exportAsk, x *export, q forwarder.Query) (next string, err error) {
	out := v.newOutput(w)
	defer out.end()
	x.out = out
	if a.gzip || w.Header().Get("Content-Encoding") != "" {
		z := gzip.NewWriter(out)
		x.out = z
		defer func() {
			if err == nil { // what is cut must not look whole
				err = z.Close()
			}
		}()
	}
	if err := x.write(x.format.begin(x)); err != nil {
		return "", err
	}
	err = v.walk(r.Context(), q, a.limit, func(p part) error {
		if err := x.part(&p); err != nil {
			return err
		}
		if p.more && a.limit > 0 && x.entries == a.limit {
			next = v.cursor(listOf(&q), p.next)
		}
		return x.in.live(r.Context())
	})
	if err != nil {
		return "", err
	}
	return next, x.write(x.format.end(x))
}

func (x *export) part(p *part) error {
	var b []byte
	for i, e := range p.entries {
		var err error
		if b, err = x.format.entry(b, x, e, p.docs[i]); err != nil {
			return err
		}
		x.entries++
	}
	return x.write(b)
}

func (x *export) write(b []byte) error {
	x.sum.Write(b)
	x.bytes += int64(len(b))
	_, err := x.out.Write(b)
	return err
}

// ended records how an export ended.
func (v *Viewer) ended(note *audit.Entry, x *export, err error) {
	now := time.Now()
	note.Revision++
	took := now.UnixMicro() - note.Timestamp
	note.RecordedAt, note.DurationUS = now.UnixMicro(), took
	note.Outcome = audit.OutcomeSuccess
	note.Action.Metadata["entries"], note.Action.Metadata["bytes"] = x.entries, x.bytes
	if err != nil {
		note.Outcome = audit.OutcomeFailure
		note.Action.Metadata["cut"] = true
	} else {
		note.Action.Metadata["sha256"] = hex.EncodeToString(x.sum.Sum(nil))
	}
	if err := v.o.Record(note); err != nil {
		v.o.Logger.Error("recording how an export ended", "entry", note.ID, "error", err)
	}
	v.o.Exported(x.entries, err == nil)
}

// exportAsk is what an export is asked for.
type exportAsk struct {
	*ask
	format *format
	after  string // an entry's id
	gzip   bool   // the file is compressed, and not only on its way
	coded  bool   // the client takes gzip on its way
}

func (v *Viewer) parseExport(r *http.Request) (*exportAsk, error) {
	if r.Method != http.MethodGet {
		return nil, &DeniedError{Status: http.StatusMethodNotAllowed, Message: "Method not allowed: an export is made by GET"}
	}
	asked, err := v.parseAskUpTo(r.URL, time.Now(), maxExport)
	if err != nil {
		return nil, err
	}
	values := r.URL.Query()
	a := &exportAsk{ask: asked, after: values.Get("after"), coded: takesGzip(r.Header)}
	switch values.Get("gzip") {
	case "", "false":
	case "true":
		a.gzip = true
	default:
		return nil, badRequest("gzip is true or false")
	}
	name := values.Get("format")
	if name == "" {
		name = "json"
	}
	if a.format = formats[name]; a.format == nil {
		return nil, badRequest("format is json, ndjson, csv or ocsf")
	}
	if !r.ProtoAtLeast(1, 1) && !a.gzip && name != "json" {
		// It has no chunks and no trailers: a file that is cut would end as a whole one does.
		return nil, &DeniedError{Status: http.StatusHTTPVersionNotSupported, Message: "HTTP version not supported: over HTTP/1.0 nobody could tell a file that was cut; ask for gzip=true or format=json, or use HTTP/1.1"}
	}
	if a.after != "" && a.cursor != "" {
		return nil, badRequest("after and cursor say both where to go on: leave one away")
	}
	return a, nil
}

// takesGzip reports whether a client says that it takes gzip.
func takesGzip(h http.Header) bool {
	for _, line := range h["Accept-Encoding"] {
		for code := range strings.SplitSeq(line, ",") {
			name, weight, _ := strings.Cut(strings.ToLower(strings.TrimSpace(code)), ";")
			zero := strings.Trim(strings.TrimPrefix(strings.TrimSpace(weight), "q="), "0.") == "" && weight != ""
			if strings.TrimSpace(name) == "gzip" && !zero {
				return true
			}
		}
	}
	return false
}

// header says what the file is and how it is called.
func (a *exportAsk) header(h http.Header, in *visit) {
	name := "audit-" + fileWord(in.Slug) + "-" + fileTime(a.start) + "-" + fileTime(a.end) + "." + a.format.extension
	h.Set("Content-Type", a.format.mediaType)
	switch {
	case a.gzip:
		name += ".gz"
		h.Set("Content-Type", "application/gzip")
	case a.coded:
		h.Set("Content-Encoding", "gzip")
	}
	h.Add("Vary", "Accept-Encoding")
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	h.Set("Trailer", strings.Join([]string{trailerEntries, trailerSHA256, trailerCursor}, ", "))
}

func fileTime(t time.Time) string { return t.UTC().Format("20060102T150405Z") }

// fileWord keeps of a text what every file system takes in a name.
func fileWord(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), 64)]
}
