package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddy-audit-log/caddy-audit-log/bench/internal/fake"
)

// aHole is a fault that only who looks while the store is down can notice.
const aHole = "sqlite has a hole for a moment"

// product is one of a few hundred lines with the command line of the real one, a SQLite
// store and one that posts. It shows that a whole run passes when the promise is kept, and
// fails when it is broken in a way that FAKE_FAULT names. It survives nothing.
type product struct {
	fault  string
	status string // the file that `audit status` prints
	url    string
	log    *slog.Logger
	db     *sql.DB

	mu      sync.Mutex
	entries [][]byte // documents; the first has sequence 1
	seen    int
	refused int
	taken   [2]int // by sqlite and by http
	failing bool
	posts   int
	// once says that the fault has happened.
	once bool
}

// runFake is the fake's main; it never returns.
func runFake(args []string) {
	dir := os.Getenv("AUDIT_DIR")
	p := &product{fault: os.Getenv("FAKE_FAULT"), status: filepath.Join(dir, "status"), log: slog.New(slog.NewJSONHandler(os.Stderr, nil))}
	var err error
	switch strings.Join(args[:2], " ") {
	case "run --config":
		err = p.run(args[2], dir)
	case "audit status":
		var b []byte
		b, err = os.ReadFile(p.status)
		_, _ = os.Stdout.Write(b)
	default:
		err = fmt.Errorf("running the fake: unknown command %v", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (p *product) run(config, dir string) error {
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	p.url = regexp.MustCompile(`http://\S+/ingest`).FindString(string(b))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if p.db, err = sql.Open("sqlite", filepath.Join(dir, "audit.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)"); err != nil {
		return err
	}
	if _, err := p.db.Exec(`CREATE TABLE entry (key INTEGER PRIMARY KEY, document TEXT); CREATE TABLE received (instance TEXT, first INTEGER, last INTEGER)`); err != nil {
		return err
	}
	if err := p.tell(); err != nil {
		return err
	}
	srv := &http.Server{Addr: net.JoinHostPort("127.0.0.1", os.Getenv("PORT")), Handler: p, ReadHeaderTimeout: time.Minute}
	stop, ended := make(chan os.Signal, 1), make(chan error, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { ended <- srv.ListenAndServe() }()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-stop:
			return srv.Close()
		case err := <-ended:
			return err
		case <-tick.C:
			if err := errors.Join(p.insert(), p.post(), p.tell()); err != nil {
				return err
			}
		}
	}
}

// ServeHTTP records before it answers.
func (p *product) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen++
	failing := p.failing
	if failing && p.fault == "calls are refused meanwhile" {
		p.refused++
		p.mu.Unlock()
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	p.mu.Unlock()
	e := fake.Describe(r)
	status, head, body := fake.Forward(r)
	e.Finish(status)
	p.mu.Lock()
	e["origin"] = fake.Record{"instance": "fake", "sequence": len(p.entries) + 1}
	doc, _ := json.Marshal(e) // always encodes
	p.entries = append(p.entries, doc)
	p.mu.Unlock()
	if failing && p.fault == "calls are broken off meanwhile" {
		panic(http.ErrAbortHandler)
	}
	fake.Answer(w, status, head, body)
}

// happens says whether it is time for a fault, which is until it has taken its effect and
// not at the beginning.
func (p *product) happens(fault string) bool {
	return p.fault == fault && !p.once && len(p.entries) >= 50
}

func (p *product) insert() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	from, to := p.taken[0], len(p.entries)
	if from == to {
		return nil
	}
	tx, err := p.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	for _, doc := range p.entries[from:to] {
		if _, err := tx.Exec(`INSERT INTO entry (document) VALUES (?)`, string(doc)); err != nil {
			return err
		}
		if p.happens("sqlite has one twice") {
			p.once = true
			if _, err := tx.Exec(`INSERT INTO entry (document) VALUES (?)`, string(doc)); err != nil {
				return err
			}
		}
	}
	if _, err := tx.Exec(`DELETE FROM received; INSERT INTO received VALUES ('fake', 1, ?)`, to); err != nil {
		return err
	}
	if hole := p.fault == aHole && p.failing; hole {
		if _, err := tx.Exec(`INSERT INTO received VALUES ('fake', ?, ?)`, to+2, to+3); err != nil {
			return err
		}
	}
	p.taken[0] = to
	return tx.Commit()
}

// post sends what waits, a hundred at a time.
func (p *product) post() error {
	p.mu.Lock()
	from := p.taken[1]
	to := min(from+100, len(p.entries))
	all, faulty := slices.Clone(p.entries[from:to]), true
	// Always the same one, also when it comes again: else that would be what is noticed, or
	// what mends the fault. A request whose answer is lost may have been taken.
	if one := 10 - from; 0 <= one && one < len(all) {
		switch p.fault {
		case "stores have different entries":
			all[one] = bytes.Replace(all[one], []byte(`{`), []byte(`{"x":1,`), 1)
		case "one is lost":
			all = slices.Delete(all, one, one+1)
		}
	}
	docs := bytes.Join(all, []byte(","))
	switch {
	case len(all) < 2:
		faulty = false
	case p.happens("one overtakes another"):
		// The last two: the first may have been taken already, by a request whose answer was lost.
		last := len(all) - 1
		all[last-1], all[last] = all[last], all[last-1]
		docs = bytes.Join(all, []byte(","))
	case p.happens("one is repeated as another"):
		docs = append(docs, append([]byte(","), bytes.Replace(all[0], []byte(`{`), []byte(`{"x":1,`), 1)...)...)
	default:
		faulty = false
	}
	p.posts++
	id := strconv.Itoa(p.posts)
	if p.fault == "one id has two requests" {
		id = "1"
	}
	forged := p.happens("one request is not signed")
	p.mu.Unlock()
	if from == to {
		return nil
	}
	err := p.send(id, append(append([]byte{'['}, docs...), ']'), forged)
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(err, errForged) {
		p.once = true // and tried again as it is to be
		return nil
	}
	if err != nil {
		if !p.failing || p.fault == "each failure is logged" {
			p.log.Warn(saysFailing, "store", httpKind, "error", err)
		}
		p.failing = true
		return nil
	}
	if p.failing {
		p.log.Info(saysRecovered, "store", httpKind)
	}
	p.failing, p.taken[1] = false, to
	p.once = p.once || faulty
	return nil
}

// errForged says that a request was found out.
var errForged = errors.New("forged")

func (p *product) send(id string, body []byte, forged bool) error {
	r, err := http.NewRequest(http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, secretBytes)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, stamp) // never fails
	_, _ = mac.Write(body)
	if forged {
		_, _ = mac.Write([]byte("!"))
	}
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", stamp)
	r.Header.Set("Webhook-Signature", "v1,AAAA v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if forged && answer.StatusCode == http.StatusUnauthorized {
		return errForged
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// tell writes what `audit status` is to print.
func (p *product) tell() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	head := len(p.entries)
	var stores []fake.Record
	for i, name := range []string{sqliteKind, httpKind} {
		n := p.taken[i]
		delivered := n
		if i == 1 && p.failing && p.fault == "the terms do not add up" {
			delivered++
		}
		stores = append(stores, fake.Record{"name": name, "position": n, "delivered": delivered, "pending": head - n, "holds": true})
	}
	recorded := head
	b, err := json.Marshal(fake.Record{
		"instance": "fake", "head": head, "open_intents": 0, "conserved": true, "stores": stores,
		"calls": fake.Record{"seen": p.seen, "recorded": recorded, "refused": p.refused, "open": p.seen - recorded - p.refused, "holds": true},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.status+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(p.status+".tmp", p.status)
}
