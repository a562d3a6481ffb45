package attribution

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddy-audit-log/caddy-audit-log/internal/fetch"
)

const (
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 1 << 20
	// maxValue bounds an id, a slug or a plan in an answer, in bytes.
	maxValue = 128
	// maxPath bounds the names of a path into an answer.
	maxPath = 8
	// maxRetryAfter bounds for how long a service can have us ask nothing.
	maxRetryAfter = time.Minute
)

// NonceHeader is the header of every question. Its value is what IsOwn recognises.
const NonceHeader = "Audit-Lookup"

// Lookup is a service that is asked about one thing by its name: whose a project is, or
// which plan an organization has. Its fields do not change once it is used.
type Lookup struct {
	// URL is where it is asked, by GET: an http or https URL whose path has one parameter,
	// as in https://api.example.com/v1/projects/{ref}. The name takes its place, escaped.
	// No redirect is followed, and an answer that has more than 1 MiB is none.
	URL string
	// ID, Slug and Plan are the paths of the organization's id, slug and plan in the
	// answer, names joined by dots, where \. is a dot in a name. An empty one is not
	// looked for. The answer of a project must have an id or a slug, that of an
	// organization its plan, if that has a path.
	ID, Slug, Plan string
	// Token is sent as a bearer token, if it is not nil. It is asked for it each time, so
	// that one that was replaced is found.
	Token func() (string, error)
	// Pattern reports whether a name may be asked about. Default: up to 64 ASCII letters,
	// digits, hyphens and underscores, of which the first is a letter or a digit.
	Pattern func(name string) bool

	prefix, suffix string
	paths          [3][]string
}

var (
	genericForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	refForm     = regexp.MustCompile(`^[a-z]{20}$`)
)

// Supabase is how platform supabase is asked, at the base URL of its Management API. The
// token must be allowed to read every project and organization.
func Supabase(base string, token func() (string, error)) (projects, organizations *Lookup) {
	base = strings.TrimSuffix(base, "/")
	projects = &Lookup{
		URL: base + "/v1/projects/{ref}", ID: "organization_id", Slug: "organization_slug",
		Token: token, Pattern: refForm.MatchString,
	}
	organizations = &Lookup{URL: base + "/v1/organizations/{slug}", ID: "id", Slug: "slug", Plan: "plan", Token: token}
	return projects, organizations
}

// String is where it asks, without what may hold a credential.
func (l *Lookup) String() string {
	u, err := url.Parse(l.URL)
	if err != nil || u.Host == "" {
		return "lookup"
	}
	return "lookup " + u.Scheme + "://" + u.Host + u.Path
}

// GoString keeps the rest out of %#v too.
func (l *Lookup) GoString() string { return l.String() }

// prepared is the lookup, ready to ask. Errors do not repeat the URL.
func (l *Lookup) prepared() (*Lookup, error) {
	if l == nil {
		return nil, nil
	}
	own := *l
	open, end := strings.Index(l.URL, "{"), strings.Index(l.URL, "}")
	if open < 0 || end < open || strings.Count(l.URL, "{") != 1 || strings.Count(l.URL, "}") != 1 {
		return nil, errors.New("its URL must have one parameter, as in https://api.example.com/v1/projects/{ref}")
	}
	own.prefix, own.suffix = l.URL[:open], l.URL[end+1:]
	u, err := url.Parse(own.prefix + "x" + own.suffix)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "":
		return nil, errors.New("it cannot be asked at its URL: give an https URL")
	case u.User != nil:
		return nil, errors.New("its URL has a user name: give the credential as its token")
	case strings.Contains(own.prefix, "?") || strings.Count(own.prefix, "/") < 3:
		return nil, errors.New("the parameter of its URL must be in the path")
	}
	for i, path := range []string{l.ID, l.Slug, l.Plan} {
		if own.paths[i], err = splitPath(path); err != nil {
			return nil, err
		}
	}
	if l.ID == "" && l.Slug == "" && l.Plan == "" {
		return nil, errors.New("it says nothing: give the path of the organization's id, slug or plan in its answer")
	}
	if own.Pattern == nil {
		own.Pattern = genericForm.MatchString
	}
	return &own, nil
}

func splitPath(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	const escaped = "\x00"
	names := strings.Split(strings.ReplaceAll(path, `\.`, escaped), ".")
	for i := range names {
		if names[i] = strings.ReplaceAll(names[i], escaped, "."); names[i] == "" {
			return nil, fmt.Errorf(`%q is not a path: write names joined by dots, as in data.plan, with \. for a dot in a name`, path)
		}
	}
	if len(names) > maxPath {
		return nil, fmt.Errorf("%q is not a path of up to %d names", path, maxPath)
	}
	return names, nil
}

// answer is what a service says of a name.
type answer struct{ id, slug, plan string }

// The ways in which there is no answer. Their texts are the operator's, and hold nothing
// that the service sent but its status.
var (
	// errAbsent means that there is no such thing.
	errAbsent = errors.New("it answered 404")
	// errLoop means that the question came to ourselves.
	errLoop = errors.New("it answered 508")
	// errWrong means that there is an answer and it is none.
	errWrong = errors.New("its answer is not what was asked for")
)

// pauseError says that the service wants to be left alone for a while.
type pauseError struct {
	status int
	pause  time.Duration
}

func (e *pauseError) Error() string {
	return fmt.Sprintf("it answered %d and wants to be asked again in %s", e.status, e.pause)
}

// newClient makes what carries the questions. It keeps connections, since what is asked
// about one project is often asked about the next.
func newClient(transport http.RoundTripper) *fetch.Client {
	if transport == nil {
		transport = fetch.Transport(maxAsking)
	}
	return fetch.New(transport, maxAnswer, "1 MiB", "answers itself")
}

// ask sends a question. The name has met the pattern.
func (l *Lookup) ask(ctx context.Context, c *fetch.Client, nonce, name string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.prefix+url.PathEscape(name)+l.suffix, nil)
	if err != nil {
		return answer{}, fetch.ErrURL
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set(NonceHeader, nonce)
	if l.Token != nil {
		token, err := l.Token()
		if err != nil {
			if file, ok := errors.AsType[*fs.PathError](err); ok {
				return answer{}, fmt.Errorf("reading its token: %w", file)
			}
			return answer{}, errors.New("reading its token: there is none") // the error may quote it
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	}
	r, err := c.Do(req)
	switch r.Status {
	case http.StatusNotFound:
		return answer{}, errAbsent
	case http.StatusLoopDetected:
		return answer{}, errLoop
	case http.StatusUnauthorized, http.StatusForbidden:
		return answer{}, fmt.Errorf("%w: it does not let us ask; check the token", err)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds, parseErr := strconv.Atoi(r.Header.Get("Retry-After"))
		if parseErr == nil && seconds > 0 {
			return answer{}, &pauseError{r.Status, time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second}
		}
	}
	if err != nil {
		return answer{}, err
	}
	return l.read(r.Body)
}

// read finds what was asked for in an answer. A value of another type is no answer: it
// shows that the path leads elsewhere.
func (l *Lookup) read(body []byte) (answer, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var object map[string]any
	if d.Decode(&object) != nil || object == nil || d.Decode(new(any)) != io.EOF {
		return answer{}, fmt.Errorf("%w: it must be a JSON object", errWrong)
	}
	var a answer
	for i, at := range []*string{&a.id, &a.slug, &a.plan} {
		if l.paths[i] == nil {
			continue
		}
		var err error
		if *at, err = textAt(object, l.paths[i]); err != nil {
			return answer{}, err
		}
	}
	switch {
	case l.Plan != "" && a.plan == "":
		return answer{}, fmt.Errorf("%w: there is no plan at %s", errWrong, l.Plan)
	case l.Plan == "" && a.id == "" && a.slug == "":
		return answer{}, fmt.Errorf("%w: there is no organization at %s", errWrong, strings.Trim(l.ID+" or "+l.Slug, " or"))
	}
	return a, nil
}

func textAt(object map[string]any, path []string) (string, error) {
	var at any = object
	for _, name := range path {
		object, ok := at.(map[string]any)
		if !ok && at != nil {
			return "", fmt.Errorf("%w: there is no object on the way to %s", errWrong, strings.Join(path, "."))
		}
		at = object[name]
	}
	var s string
	switch v := at.(type) {
	case nil:
		return "", nil
	case string:
		s = v
	case json.Number:
		if s = v.String(); strings.Trim(s, "0123456789") != "" {
			return "", fmt.Errorf("%w: what is at %s is neither text nor a whole number", errWrong, strings.Join(path, "."))
		}
	default:
		return "", fmt.Errorf("%w: what is at %s is neither text nor a whole number", errWrong, strings.Join(path, "."))
	}
	if !isValue(s) {
		return "", fmt.Errorf("%w: what is at %s is too long, or no plain text", errWrong, strings.Join(path, "."))
	}
	return s, nil
}

// isValue reports whether a text can be an id, a slug or a plan. The empty one is none.
func isValue(s string) bool {
	return len(s) <= maxValue && utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) < 0
}
