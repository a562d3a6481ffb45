package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/stores/httpclient"
)

const (
	hostileKey    = "PLANTEDACCESSKEYOFATEST"
	hostileSecret = "planted secret/key+of a test"
)

// answering stands in for a server of S3 that misbehaves: each request is the handler's.
// What a good one does is tried with a real one.
func answering(t *testing.T, h http.HandlerFunc) *client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c := Config{URL: srv.URL + "/audit", AccessKey: "{key}", SecretKey: "{secret}", Resolve: func(p string) (string, error) {
		return map[string]string{"{key}": hostileKey, "{secret}": hostileSecret}[p], nil
	}}.withDefaults()
	target, err := c.check()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newClient(c, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

func errorBody(code, message string) string {
	return fmt.Sprintf(`<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

func TestWhatAnAnswerMeans(t *testing.T) {
	for _, test := range []struct {
		status  int
		code    string
		header  [2]string
		refused bool
		after   time.Duration
		says    string
	}{
		{503, "SlowDown", [2]string{"Retry-After", "7"}, false, 7 * time.Second, "SlowDown"},
		{503, "SlowDown", [2]string{"Retry-After", "99999999999999999999"}, false, httpclient.MaxRetryAfter, "SlowDown"},
		{429, "TooManyRequests", [2]string{"Retry-After", "1"}, false, time.Second, "TooManyRequests"},
		{500, "InternalError", [2]string{}, false, 0, "InternalError"},
		{409, "ConditionalRequestConflict", [2]string{}, false, 0, "ConditionalRequestConflict"},
		{400, "EntityTooLarge", [2]string{}, true, 0, "EntityTooLarge"},
		{413, "Anything", [2]string{}, true, 0, "Anything"},
		{400, "InvalidRequest", [2]string{}, false, 0, "check that the server knows what its options ask for"},
		{400, "MalformedXML", [2]string{}, false, 0, "MalformedXML"},
		{403, "AccessDenied", [2]string{}, false, 0, "s3:PutObjectRetention"},
		{403, "InvalidAccessKeyId", [2]string{}, false, 0, "check its options access_key"},
		{403, "RequestTimeTooSkewed", [2]string{}, false, 0, "set this machine's clock right"},
		{403, "SignatureDoesNotMatch", [2]string{}, false, 0, "secret_key"},
		{404, "NoSuchBucket", [2]string{}, false, 0, "create on"},
		{301, "PermanentRedirect", [2]string{"Location", "http://192.0.2.1/"}, false, 0, "check its option region"},
		{307, "Moved", [2]string{"Location", "http://192.0.2.1/"}, false, 0, "a redirect is not followed"},
		{400, "KMS.DisabledException", [2]string{}, false, 0, "option encryption"},
		{507, "InsufficientStorage", [2]string{}, false, 0, "give the bucket more room"},
		{418, "<no XML\x1b[2J", [2]string{}, false, 0, "418"},
	} {
		t.Run(fmt.Sprint(test.status, " ", test.code), func(t *testing.T) {
			b := answering(t, func(w http.ResponseWriter, r *http.Request) {
				if test.header[0] != "" {
					w.Header().Set(test.header[0], test.header[1])
				}
				w.WriteHeader(test.status)
				// With what it was sent, as some do.
				auth := base64.StdEncoding.EncodeToString([]byte(hostileSecret))
				io.WriteString(w, errorBody(test.code, "you are "+hostileKey+"\n and "+hostileSecret+" or "+auth+r.Header.Get("Authorization")))
			})
			s := newStore(b.c, b.target, b, slog.New(slog.DiscardHandler))
			s.known[testInstance] = &known{classes: map[string]bool{}, closedKnown: true}
			err := s.Write(t.Context(), records(t, 1, 3))
			mentions(t, err, "writing entries 1 to 3 to audit store", test.says)
			if isRefused(err) != test.refused {
				t.Errorf("refused %v: %v", isRefused(err), err)
			}
			var asked interface{ RetryAfter() time.Duration }
			if !errors.As(err, &asked) || asked.RetryAfter() != test.after {
				t.Errorf("it asked for %v", asked)
			}
			for _, secret := range []string{hostileKey, hostileSecret, base64.StdEncoding.EncodeToString([]byte(hostileSecret)), "\n"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error shows %q: %v", secret, err)
				}
			}
			if len(err.Error()) > 3000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestAnswersAreBounded(t *testing.T) {
	flood := bytes.Repeat([]byte("x"), 1<<20)
	b := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusInternalServerError)
		} else {
			io.WriteString(w, "<ListBucketResult><Contents><Key>")
		}
		for {
			if _, err := w.Write(flood); err != nil {
				return
			}
		}
	})
	err := b.put(t.Context(), "x", []byte("body"), nil, time.Time{}, true)
	mentions(t, err, "writing object")
	for _, err := range b.list(t.Context(), "p/", "") {
		mentions(t, err, "listing", "larger than 16 MiB")
	}
}

func TestAListingThatNeverEndsDoes(t *testing.T) {
	b := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken><Contents><Key>p/a</Key></Contents><Contents><Key>p/b</Key></Contents></ListBucketResult>`)
	})
	n := 0
	for _, err := range b.list(t.Context(), "p/", "") {
		if n++; err != nil {
			mentions(t, err, "not in order")
		}
	}
	if n != 3 {
		t.Errorf("%d steps", n)
	}
}

func TestABodyThatStallsEnds(t *testing.T) {
	stop := make(chan struct{})
	b := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			<-stop
			return
		}
		w.Header().Set("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		<-stop
	})
	defer close(stop)
	b.timeout = time.Second
	body, err := b.get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	_, err = io.ReadAll(body)
	mentions(t, err, "nothing came for")
	err = b.put(t.Context(), "y", []byte("z"), nil, time.Time{}, false)
	mentions(t, err, "did not answer within")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	b.timeout = time.Minute
	if err := b.put(ctx, "y", []byte("z"), nil, time.Time{}, false); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// plainServer keeps objects and lets a test say what it does with If-None-Match.
type plainServer struct {
	mu      sync.Mutex
	objects map[string]fakeObject
	puts    int
	// ignores and knowsNot are the two ways of servers without conditional writes.
	ignores, knowsNot bool
}

func (p *plainServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	key := strings.TrimPrefix(r.URL.Path, "/audit/")
	o, there := p.objects[key]
	conditional := r.Header.Get("If-None-Match") != ""
	switch {
	case r.Method == http.MethodPut && conditional && p.knowsNot:
		w.WriteHeader(http.StatusNotImplemented)
		io.WriteString(w, errorBody("NotImplemented", "A header you provided implies functionality that is not implemented"))
	case r.Method == http.MethodPut && conditional && there && !p.ignores:
		w.WriteHeader(http.StatusPreconditionFailed)
	case r.Method == http.MethodPut:
		p.puts++
		p.objects[key] = fakeObject{body, map[string]string{"X-Amz-Meta-Sha256": r.Header.Get("X-Amz-Meta-Sha256")}}
	case r.URL.Query().Has("list-type"):
		io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
	case !there:
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
		for name, value := range o.meta {
			w.Header().Set(name, value)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(o.body)))
		if r.Method == http.MethodGet {
			w.Write(o.body)
		}
	}
}

func TestAServerWithoutConditionalWritesIsFoundOutOnce(t *testing.T) {
	for name, p := range map[string]*plainServer{
		"it ignores the condition": {ignores: true}, "it refuses the condition": {knowsNot: true}, "it knows it": {},
	} {
		t.Run(name, func(t *testing.T) {
			p.objects = map[string]fakeObject{}
			b := answering(t, p.ServeHTTP)
			var log bytes.Buffer
			s := newStore(b.c, b.target, b, slog.New(slog.NewTextHandler(&log, nil)))
			for range 2 {
				if err := s.mark(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			knows := !p.ignores && !p.knowsNot
			if s.conditional != knows || strings.Count(log.String(), "If-None-Match") != map[bool]int{true: 0, false: 1}[knows] {
				t.Errorf("conditional %v, log %s", s.conditional, log.String())
			}
			for n := range 3 {
				if err := s.Write(t.Context(), records(t, 10*n+1, 10*n+5)); err != nil {
					t.Fatal(err)
				}
			}
			before := p.puts
			// An answer that was lost: the object is there, and is not sent again.
			o := describe(records(t, 21, 25), plain(records(t, 21, 25)))
			o.day = dayOf(time.Now())
			s.inDoubt = &o
			if err := s.Write(t.Context(), records(t, 21, 25)); err != nil {
				t.Fatal(err)
			}
			if p.puts != before {
				t.Errorf("%d further uploads", p.puts-before)
			}
		})
	}
}

func TestAnotherObjectUnderTheSameNameIsAnError(t *testing.T) {
	p := &plainServer{objects: map[string]fakeObject{}}
	b := answering(t, p.ServeHTTP)
	s := newStore(b.c, b.target, b, slog.New(slog.DiscardHandler))
	o := describe(records(t, 1, 5), plain(records(t, 1, 5)))
	o.day = dayOf(time.Now())
	p.objects[entriesDir+o.name()] = fakeObject{[]byte("forged"), map[string]string{"X-Amz-Meta-Sha256": "00"}}
	mentions(t, s.Write(t.Context(), records(t, 1, 5)), o.name(), "is not this store's", "another prefix")
	p.objects[markerName] = fakeObject{[]byte(`{"layout":2}`), nil}
	mentions(t, s.mark(t.Context()), "is not that of this version")
}

func TestAnObjectCannotTakeTheMemory(t *testing.T) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	bomb := z.EncodeAll(make([]byte, maxLine+1<<20), nil)
	o := object{entries: 1 << 40}
	if err := o.eachEntry(bytes.NewReader(bomb), func([]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "a line of more than") {
		t.Errorf("%v", err)
	}
	wide, err := zstd.NewWriter(nil, zstd.WithWindowSize(16<<20), zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	wide.Reset(&buf)
	wide.Write(make([]byte, 20<<20))
	wide.Close()
	if err := o.eachEntry(&buf, func([]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "window") {
		t.Errorf("%v", err)
	}
	for name, body := range map[string][]byte{"nothing": nil, "no zstd": []byte("hello"), "half": bomb[:len(bomb)/2]} {
		if err := (object{entries: 1}).eachEntry(bytes.NewReader(body), func([]byte) error { return nil }); err == nil {
			t.Errorf("%s is an object", name)
		}
	}
}

func TestClosingEndsAWriteAndLaterOnesFail(t *testing.T) {
	asked := make(chan struct{}, 100)
	stop := make(chan struct{})
	b := answering(t, func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-stop
	})
	defer close(stop)
	s := newStore(b.c, b.target, b, slog.New(slog.DiscardHandler))
	s.release = b.close
	done := make(chan error)
	go func() { done <- s.Write(context.Background(), records(t, 1, 2)) }()
	<-asked
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	mentions(t, <-done, "it is closed")
	mentions(t, s.Write(t.Context(), records(t, 1, 2)), "it is closed")
	var _ forwarder.Store = s
}

func TestARoleIsAskedForItsKeys(t *testing.T) {
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"AccessKeyId":"ROLEKEY","SecretAccessKey":"planted role secret","Token":"planted role token","Expiration":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
	}))
	defer role.Close()
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.URL)
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
	var auth, token string
	b := answering(t, func(w http.ResponseWriter, r *http.Request) {
		auth, token = r.Header.Get("Authorization"), r.Header.Get("X-Amz-Security-Token")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, errorBody("AccessDenied", "not you, "+token))
	})
	c := b.c
	c.Credentials, c.AccessKey, c.SecretKey = CredentialsIAM, "", ""
	iam, err := newClient(c, b.target)
	if err != nil {
		t.Fatal(err)
	}
	defer iam.close()
	err = iam.put(t.Context(), "x", []byte("body"), nil, time.Time{}, true)
	if !strings.Contains(auth, "Credential=ROLEKEY/") || token != "planted role token" {
		t.Errorf("it was signed as %q", auth)
	}
	mentions(t, err, "AccessDenied", "[concealed]")
	role.Close()
	again, err := newClient(c, b.target)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	mentions(t, again.put(t.Context(), "x", []byte("body"), nil, time.Time{}, true), "asking for credentials", "has a role")
}
