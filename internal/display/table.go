package display

import (
	"cmp"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-colorable"
	"github.com/rivo/uniseg"
	terminal "golang.org/x/term"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
)

const (
	// tableSample is how many rows say how wide the columns are.
	tableSample = 100
	// tableGap is between two columns.
	tableGap = "  "
	// narrowest is what a column has at least, if it is not less wide by itself.
	narrowest = 6
	// usualWidth is that of a terminal that does not tell its own.
	usualWidth = 80
	// maxCluster bounds the bytes of what stands in one place, so that marks on a letter
	// do not cover other lines.
	maxCluster = 16
)

// columns are a table's, of which the last ones are left out where there is no room. What
// has a filter is shown as that takes it.
var columns = []column{
	{"time", 19}, {"outcome", 8}, {"status", 6}, {"method", 8}, {"action", 0}, {"target", 0}, {"actor", 0}, {"organization", 0}, {"by", 8},
}

// column has a name, and the most width that it takes, 0 if it is what there is.
type column struct {
	name string
	most int
}

// Table shows entries to a person at a terminal, as they come. Its first rows wait until
// it is known how wide the columns are. It is not safe for concurrent use.
type Table struct {
	w       io.Writer
	width   int
	colour  bool
	columns []column
	rows    [][]string // that wait
	widths  []int      // nil as long as rows wait
}

// NewTable makes a table of a width in cells. Of a credential's trail it also says what
// makes an entry part of it.
func NewTable(w io.Writer, width int, colour, trail bool) *Table {
	t := &Table{w: w, width: width, colour: colour, columns: columns}
	if !trail {
		t.columns = columns[:len(columns)-1]
	}
	return t
}

// ScreenOf is the terminal that an output goes to, and its width; nil if it is none.
func ScreenOf(w io.Writer) (io.Writer, int) {
	f, ok := w.(*os.File)
	if !ok || !terminal.IsTerminal(int(f.Fd())) {
		return nil, 0
	}
	width, _, err := terminal.GetSize(int(f.Fd()))
	if err != nil || width < 1 {
		width = usualWidth
	}
	return colorable.NewColorable(f), width
}

// InColour reports whether a terminal gets colours: see https://no-color.org.
func InColour(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// Add shows an entry, now or when the columns' widths are known.
func (t *Table) Add(doc []byte, by string) error {
	e, err := audit.Decode(doc)
	if err != nil {
		return err
	}
	row := cellsOf(e, by)[:len(t.columns)]
	if t.widths != nil {
		return t.write(row, "")
	}
	if t.rows = append(t.rows, row); len(t.rows) == tableSample {
		return t.End()
	}
	return nil
}

// End shows what waits.
func (t *Table) End() error {
	if t.widths != nil || len(t.rows) == 0 {
		return nil
	}
	t.layOut()
	header := make([]string, len(t.columns))
	for i, c := range t.columns {
		header[i] = c.name
	}
	if err := t.write(header, bold); err != nil {
		return err
	}
	for _, row := range t.rows {
		if err := t.write(row, ""); err != nil {
			return err
		}
	}
	t.rows = nil
	return nil
}

// layOut gives each column what it needs. Where that is too much, the widest ones get
// less, down to narrowest; where that is too much still, the last ones go.
func (t *Table) layOut() {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = len(c.name)
		for _, row := range t.rows {
			widths[i] = max(widths[i], uniseg.StringWidth(row[i]))
		}
		if c.most > 0 {
			widths[i] = min(widths[i], c.most)
		}
	}
	for {
		over := (len(widths) - 1) * len(tableGap)
		for _, w := range widths {
			over += w
		}
		if over -= t.width; over <= 0 {
			break
		}
		widest := -1
		for i, w := range widths {
			if t.columns[i].most == 0 && w > narrowest && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		switch {
		case widest >= 0:
			widths[widest]--
		case len(widths) == 1:
			widths[0] = t.width
		default:
			widths = widths[:len(widths)-1]
		}
	}
	t.widths = widths
}

// Ways to write.
const (
	Plain = "\x1b[0m"
	bold  = "\x1b[1m"
	faint = "\x1b[2m"
)

// outcomeColours are told by the word as well.
var outcomeColours = map[audit.Outcome]string{
	audit.OutcomeSuccess: "\x1b[32m", audit.OutcomeFailure: "\x1b[31m", audit.OutcomeDenied: "\x1b[33m",
	audit.OutcomeRefused: "\x1b[1;31m", audit.OutcomePending: "\x1b[36m", audit.OutcomeUnknown: "\x1b[35m",
}

// write writes a row, all in one style if one is given.
func (t *Table) write(row []string, style string) error {
	var b strings.Builder
	blank := 0
	for i, width := range t.widths {
		text, has := cut(row[i], width)
		how := style
		if how == "" && t.columns[i].name == "outcome" {
			how = outcomeColours[audit.Outcome(text)]
		} else if how == "" && i == 0 {
			how = faint
		}
		b.WriteString(strings.Repeat(" ", blank)) // none at a line's end
		if t.colour && how != "" {
			text = how + text + Plain
		}
		b.WriteString(text)
		blank = width - has + len(tableGap)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(t.w, b.String())
	return err
}

// cut is as much of a text as there is room for, and how much room that takes.
func cut(s string, room int) (text string, width int) {
	var b strings.Builder
	for rest, state := s, -1; rest != ""; {
		var cluster string
		var w int
		cluster, rest, w, state = uniseg.FirstGraphemeClusterInString(rest, state)
		if len(cluster) > maxCluster {
			cluster, w = "·", 1
		}
		if width+w > room || width+w == room && rest != "" {
			b.WriteString("…")
			return b.String(), width + 1
		}
		b.WriteString(cluster)
		width += w
	}
	return b.String(), width
}

// cellsOf are an entry's cells, in which nothing drives a terminal.
func cellsOf(e *audit.Entry, by string) []string {
	b := e.Brief()
	status := ""
	if b.Status != 0 {
		status = strconv.Itoa(b.Status)
	}
	target := b.TargetType
	if b.Target != "" {
		target += "/" + b.Target
	}
	actor := cmp.Or(b.Email, b.Actor, string(b.TokenType))
	if e.IsEvent() {
		actor = "sidecar"
	}
	cells := []string{
		time.UnixMicro(e.Timestamp).Format(time.DateTime), string(b.Outcome), status, b.Method, cmp.Or(b.Action, e.Action.Path), target, actor,
		cmp.Or(e.OrganizationSlug, e.OrganizationID), by,
	}
	for i, s := range cells {
		cells[i] = Printable(cmp.Or(audit.BriefText(s), "–"))
	}
	return cells
}
