package commands

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	terminal "golang.org/x/term"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/caddymodule/operator"
	"github.com/caddy-audit-log/caddy-audit-log/internal/display"
)

// maxTerminalLine is what a terminal takes as one line; it drops the rest.
const maxTerminalLine = 4095

func searchCommand() *cobra.Command {
	var p place
	var r operator.SearchRequest
	var fromStdin, asJSON bool
	cmd := &cobra.Command{
		Use:   "search [--token-stdin | --token-hash <hash>] [--session <id>] [--user <id>] [--ip <address>] [--<filter> <value>]… [--from <time>] [--to <time>] [--json]",
		Short: "Finds a leaked credential's whole trail, a person's, or what filters select",
		Long: `
Prints the entries of a credential, a session, a user or an address, or those that
filters select, oldest first, each once and in its highest revision. Several flags
narrow the search.

A credential is read from standard input and never given as an argument: those
stand in lists of processes and in the shell's history. It may be a bare token,
or the line of its header, as in "Authorization: Bearer …" or "apikey: …". On a
terminal it is not shown. It is neither printed nor stored.

Its trail has the entries that it was presented in, and of a JWT also those with
a copy that differs only in the spare bits of its signature, or has an ECDSA
signature's twin. If the JWT names a session, as session_id or sid, the other
entries of that session are found as well, since a session's tokens are replaced
all the time; their lines end with "by its session". What the JWT says about its
session is not verified, but an entry's session is.

The filters are those of the page: --actor, --project, --action, --method, --target,
--token-type, --outcome, --status and --network, and once --text. Each of the others
may be given again, and then one of its values is enough. There may be up to 100
values, of up to 512 bytes each. All entries that are found are printed, unless
--limit says how many are enough.

A terminal gets a table as wide as it is, in colour unless NO_COLOR is set; what
stands in its columns is what the filter of that name takes, with … where it was
cut. Everything else gets one plain line for each entry, or with --json the whole
entry.

The running server also searches what no store has yet. When it is down, the
store's file is searched, and standard error says what waits in the buffer.`,
		Example: `  printf %s "$LEAKED" | caddy audit search --token-stdin
  caddy audit search --token-stdin --json < leaked.txt > trail.ndjson
  caddy audit search --user 7b1c0d4e-8f2a-4c57-9a43-0e3f6a1d2c11 --from 2026-01-31T00:00:00Z
  caddy audit search --ip 203.0.113.7 --organization acme
  caddy audit search --outcome denied --outcome failure --newest-first --limit 50
  caddy audit search --actor ada@example.com --method DELETE --from 2026-01-31T00:00:00Z
  caddy audit search --target secret --status 2xx --network 203.0.113.0/24
  caddy audit search --project abcdefghijklmnopqrst --text api-keys --json | jq .actor`,
		// Whoever gives a credential where it does not belong must not see it
		// repeated in an error, which may be logged.
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New("search takes no argument: a credential comes from standard input, with --token-stdin; what you gave now stands in your shell's history")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if fromStdin {
				if r.Credential, err = readCredential(cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("text") && strings.TrimSpace(r.Text) == "" {
				return errors.New("searching by text: it is empty: give some of it")
			}
			return find(cmd.Context(), &p, &r, asJSON, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&fromStdin, "token-stdin", false, "The trail of the credential on standard input")
	cmd.Flags().StringVar(&r.TokenHash, "token-hash", "", "Only entries with this token_hash")
	cmd.Flags().StringVar(&r.Session, "session", "", "Only entries of this verified session, by actor.session_id")
	cmd.Flags().StringVar(&r.User, "user", "", "Only entries of this verified user, by actor.user_id")
	cmd.Flags().StringVar(&r.IP, "ip", "", "Only entries from this address, by actor.ip")
	cmd.Flags().StringVar(&r.Organization, "organization", "", "Only this organization's slug")
	cmd.Flags().StringVar(&r.From, "from", "", "Only calls that arrived at or after this time")
	cmd.Flags().StringVar(&r.To, "to", "", "Only calls that arrived before this time")
	filterFlags(cmd, &r.SearchFilters)
	cmd.Flags().IntVar(&r.Limit, "limit", 0, "Only so many entries, the first in their order (default: all)")
	cmd.Flags().BoolVar(&r.NewestFirst, "newest-first", false, "The newest entry first, not the oldest")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON, one object a line")
	cmd.MarkFlagsMutuallyExclusive("token-stdin", "token-hash")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok && invalid.GetFlag().Name != "token-stdin" {
			return fmt.Errorf("--%s is a %s, and what you gave is none", invalid.GetFlag().Name, kindOf(invalid.GetFlag()))
		}
		if strings.Contains(err.Error(), "token-stdin") {
			return errors.New("--token-stdin takes no value: the credential comes from standard input; what you gave now stands in your shell's history")
		}
		return err
	})
	return cmd
}

// kindOf is what a flag takes, for people.
func kindOf(f *pflag.Flag) string {
	if f.Value.Type() == "int" {
		return "whole number"
	}
	return "switch that takes no value"
}

// readCredential reads one line. Its errors never hold what was read.
func readCredential(in io.Reader, prompt io.Writer) (string, error) {
	var b []byte
	var err error
	if f, ok := in.(*os.File); ok && terminal.IsTerminal(int(f.Fd())) {
		fmt.Fprint(prompt, "The credential (it is not shown): ")
		b, err = terminal.ReadPassword(int(f.Fd()))
		fmt.Fprintln(prompt)
		if err == nil && len(b) >= maxTerminalLine {
			return "", fmt.Errorf("reading the credential: a terminal takes no more than %d bytes: put it into a file and give that as standard input", maxTerminalLine)
		}
	} else {
		b, err = io.ReadAll(io.LimitReader(in, operator.MaxCredential+1))
	}
	b = bytes.TrimSpace(b)
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the credential from standard input: %w", err)
	case len(b) == 0:
		return "", errors.New(`reading the credential from standard input: there is none: give it as in printf %s "$LEAKED" | caddy audit search --token-stdin`)
	case len(b) > operator.MaxCredential:
		return "", fmt.Errorf("reading the credential from standard input: it has more than %d bytes: give one token", operator.MaxCredential)
	case bytes.ContainsAny(b, "\r\n"):
		return "", errors.New("reading the credential from standard input: it has several lines: give one token, or the one line of its header")
	}
	return string(b), nil
}

// find asks the server, or reads its files, and shows what is found.
func find(ctx context.Context, p *place, r *operator.SearchRequest, asJSON bool, w, messages io.Writer) error {
	if _, err := r.Query(nil); err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	show := &findings{show: lineFinder(out, asJSON)}
	done := func() error { return nil }
	if screen, width := display.ScreenOf(w); screen != nil && !asJSON {
		t := display.NewTable(screen, width, display.InColour(os.Getenv), r.Credential != "")
		show.show, done = t.Add, t.End
	}
	end, err := p.search(ctx, r, show.add)
	// What was found before an error is shown too.
	if flushErr := errors.Join(done(), out.Flush()); err == nil && flushErr != nil {
		err = fmt.Errorf("writing what was found: %w", flushErr)
	}
	if err != nil {
		return err
	}
	for _, note := range end.Notes {
		fmt.Fprintln(messages, display.Printable(note))
	}
	fmt.Fprintln(messages, show.text(r, end))
	if end.Failed != "" {
		return fmt.Errorf("something is missing from what was found: %s", end.Failed)
	}
	return nil
}

// search calls add for each entry.
func (p *place) search(ctx context.Context, r *operator.SearchRequest, add func(doc []byte, by string) error) (*operator.SearchEnd, error) {
	if err := p.checkPrivate(r); err != nil {
		return nil, err
	}
	request, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	answer, err := p.ask(ctx, http.MethodPost, operator.SearchPath, nil, bytes.NewReader(request))
	if err == nil {
		defer answer.Close()
		return readFindings(answer, add)
	}
	if !errors.Is(err, errDown) {
		return nil, err
	}
	return searchFiles(ctx, p, r, err, add)
}

// checkPrivate keeps a credential off the network, where the admin endpoint has
// no encryption.
func (p *place) checkPrivate(r *operator.SearchRequest) error {
	if r.Credential == "" {
		return nil
	}
	address, err := p.endpoint()
	if err != nil {
		return err
	}
	parsed, err := parseEndpoint(address)
	if err != nil {
		return err
	}
	ip, _ := netip.ParseAddr(parsed.Host)
	if parsed.IsUnixNetwork() || parsed.Host == "localhost" || ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("asking the server at %q: a credential is not sent to an endpoint that is neither a unix socket nor a loopback address: "+
		"set admin to a unix socket, as in unix/./admin.sock|0600, or search by --token-hash", address)
}

// readFindings reads the server's answer to its end.
func readFindings(answer io.Reader, add func(doc []byte, by string) error) (end *operator.SearchEnd, err error) {
	err = eachLine(answer, func(line []byte) error {
		var f operator.Finding
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("reading the server's answer: %w", err)
		}
		if f.End != nil {
			end = f.End
			return nil
		}
		return add(f.Entry, f.By)
	})
	if err == nil && end == nil {
		err = errors.New("reading the server's answer: it ended early: search again")
	}
	return end, err
}

// searchFiles searches the store of a server that is not running.
func searchFiles(ctx context.Context, p *place, r *operator.SearchRequest, down error, add func(doc []byte, by string) error) (*operator.SearchEnd, error) {
	app, done, err := p.offline(ctx)
	if err != nil {
		return nil, errors.Join(down, err)
	}
	defer done()
	end := new(operator.SearchEnd)
	key, err := operator.ReadTokenKey(app.Directory())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if key == nil && r.Credential != "" {
		end.Note("%q is not there: only JWTs and tokens of a known shape can be found without it", operator.TokenKeyPath(app.Directory()))
	}
	q, err := r.Query(key)
	if err != nil {
		return nil, err
	}
	if r.Credential != "" && q.Trail.IsZero() {
		return nil, fmt.Errorf("searching for the credential: its hash needs the key %q: restore it from a backup", operator.TokenKeyPath(app.Directory()))
	}
	end.TokenHash = operator.ShownHash(&q.Trail)
	if err := noteWaiting(end, app); err != nil {
		return nil, fmt.Errorf("%w; but %w", down, err)
	}
	reader, err := app.Retention().Stores.OpenReader(ctx)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	do := operator.Search{Query: q, Store: reader, Emit: add}
	err = do.Run(ctx)
	end.More = do.More
	return end, err
}

// noteWaiting says how much of the buffer is in no store that can be searched.
func noteWaiting(e *operator.SearchEnd, app Sidecar) error {
	b, err := buffer.Inspect(app.Directory())
	if errors.Is(err, buffer.ErrLocked) {
		return fmt.Errorf("a process has the buffer %q open: give the --address of its admin endpoint", app.Directory())
	}
	if err != nil {
		e.Note("what waits in the buffer was not searched: %v", err)
		return nil
	}
	if store := app.Retention().Stores.Readable(); store != nil {
		if n := b.Head - b.Stores[store.Name].Position; n > 0 {
			e.Note("not searched: %s in the buffer that the store does not have: start the server and search again", entries(int64(n)))
		}
	}
	if b.Open > 0 {
		e.Note("not recorded yet: %d in flight when the server ended: start it and search again", b.Open)
	}
	return nil
}

// findings are shown as they come, and counted.
type findings struct {
	show func(doc []byte, by string) error

	all, bySession int64
}

func (f *findings) add(doc []byte, by string) error {
	f.all++
	if by == audit.BySession {
		f.bySession++
	}
	return f.show(doc, by)
}

// lineFinder prints an entry as one line, which says if it was found by its session.
func lineFinder(w io.Writer, asJSON bool) func(doc []byte, by string) error {
	print := linePrinter(w, asJSON)
	return func(doc []byte, by string) error {
		if asJSON || by != audit.BySession {
			return print(doc)
		}
		e, err := audit.Decode(doc)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, display.Summary(e)+"  by its session")
		return err
	}
}

// text says how much was found.
func (f *findings) text(r *operator.SearchRequest, end *operator.SearchEnd) string {
	if f.all == 0 {
		return "nothing found for " + requestText(r, end.TokenHash)
	}
	s := entries(f.all)
	if r.Credential != "" {
		s += fmt.Sprintf(": %s by the token", humanize.Comma(f.all-f.bySession))
	}
	if f.bySession > 0 {
		s += fmt.Sprintf(", %s more by its session", humanize.Comma(f.bySession))
	}
	if end.More {
		s += "; there are more: --limit ended the search"
	}
	return s
}

func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return humanize.Comma(n) + " entries"
}

// requestText says what is searched for, and of a credential nothing but the beginning
// of its hash.
func requestText(r *operator.SearchRequest, hash string) string {
	var parts []string
	if hash != "" || r.Credential != "" {
		parts = append(parts, "the token with hash "+cmp.Or(hash, "unknown"))
	}
	for _, part := range [][2]string{
		{"session", r.Session}, {"user", r.User}, {"address", r.IP}, {"organization", r.Organization}, {"from", r.From}, {"to", r.To},
	} {
		if part[1] != "" {
			parts = append(parts, part[0]+" "+display.Printable(part[1]))
		}
	}
	return strings.Join(append(parts, filterWords(&r.SearchFilters)...), ", ")
}
