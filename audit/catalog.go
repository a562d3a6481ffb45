package audit

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Bounds of a template. They size the arrays of a match, which is why a match
// allocates nothing and why a path of any length costs one scan.
const (
	maxTemplateSegments = 32
	maxTemplateParams   = 16
)

// Operation is one operation of an API: its route, what it is called, and how
// its target is read from the path. The fields that name parameters hold names
// from Template, without braces; empty means that the template has none.
type Operation struct {
	// Method is in upper case. It is empty in the operation that a match gives
	// for a known route with an unknown method; see Match.MethodMiss.
	Method string
	// Template is the route, as in /v1/projects/{ref}.
	Template string
	// Code is the operation's id in the API's description.
	Code string
	// Name is for people; see ActionName.
	Name string
	// Target says what the operation is done to.
	Target TargetRule
	// Organization is the parameter whose value is an organization's slug.
	Organization string
	// Project is the parameter whose value is a project's ref.
	Project string
	// Secrets are the parameters whose values are credentials. None of them
	// may serve as target, organization or project.
	Secrets []string
	// Changing marks an operation that changes something although its method
	// says that it only reads. False leaves the answer to the method.
	Changing bool
	// Secured says that the description requires a credential. False is also
	// unknown.
	Secured bool
	// Sensitive marks an operation that reads what an auditor asks about first:
	// keys, secrets, data. It stays recorded where a rule turns reads off.
	Sensitive bool
	// Capture is what of a call is safe and decisive to record at the levels
	// that record more than metadata.
	Capture Capture
	// Born is the path, as those of Capture, of the target's id in the answer of
	// an operation that makes its target; empty if it makes none.
	Born string
	// Transfers marks an operation that hands a project to another organization: whose it
	// was is of no use any more for the calls after it. Where Project is empty, it is a
	// project that an operation with Offers has named before.
	Transfers bool
	// Offers marks an operation that makes a token with which somebody can hand Project
	// to another organization, by an operation that does not name it.
	Offers bool
}

// TargetRule reads a target from a path. ID and Parent name parameters.
type TargetRule struct {
	Type   string
	ID     string
	Parent string
}

// Catalog finds the operation that a call asks for. It never changes after
// NewCatalog, so it is safe for concurrent use. A nil Catalog knows no route.
type Catalog struct {
	root node
	// depth is the number of segments of the longest template. A longer path
	// matches nothing and is not looked at further.
	depth int
	// markers are the literals that a credential follows in some template.
	markers []string
	// sensitive says that some operation is.
	sensitive  bool
	operations []Operation
}

// node is one position of the templates, reached by one sequence of literals
// and parameters only: the catalog is a tree. A search therefore visits each
// node at most once, so that no path, however hostile, makes it visit more
// nodes than the catalog has.
type node struct {
	literals map[string]*node
	param    *node
	route    *route
}

// route is what the templates of one shape share. Their parameters may have
// different names, and only some may be credentials: one API has both
// DELETE …/invitations/{id} and GET …/invitations/{token}.
type route struct {
	bindings []binding
	// miss answers for a method that none of the bindings has. It is made of
	// the template with the most credentials, since the value may be one.
	miss binding
}

// binding is an operation and where its parameters stand.
type binding struct {
	operation *Operation
	params    []pathParam
}

type pathParam struct {
	name    string
	segment int
	secret  bool
}

// NewCatalog makes a catalog of operations, whose order does not matter. It
// fails, naming the method and the template, if a template is malformed, if two
// operations cannot be told apart, or if an operation names a parameter that
// its template does not have or that is a credential.
func NewCatalog(operations []Operation) (*Catalog, error) {
	c := &Catalog{operations: slices.Clone(operations)}
	for i := range c.operations {
		op := &c.operations[i]
		op.Secrets = slices.Clone(op.Secrets)
		c.sensitive = c.sensitive || op.Sensitive
		if err := c.add(op); err != nil {
			return nil, fmt.Errorf("adding %s %s to the catalog: %w", op.Method, op.Template, err)
		}
	}
	return c, nil
}

// Operations are those that the catalog was made of, in their order. The same
// pointers are what matches give; they must not be changed. A nil Catalog has
// none.
func (c *Catalog) Operations() iter.Seq[*Operation] {
	return func(yield func(*Operation) bool) {
		for i := range c.len() {
			if !yield(&c.operations[i]) {
				return
			}
		}
	}
}

func (c *Catalog) len() int {
	if c == nil {
		return 0
	}
	return len(c.operations)
}

func (c *Catalog) add(op *Operation) error {
	if op.Method == "" || op.Method != strings.ToUpper(op.Method) {
		return fmt.Errorf("reading method %q: it must be in upper case", op.Method)
	}
	segments, err := parseTemplate(op.Template)
	if err != nil {
		return err
	}
	b := binding{operation: op}
	n, marker := &c.root, ""
	for i, s := range segments {
		if !s.param {
			n, marker = n.literal(s.text), s.text
			continue
		}
		if n.param == nil {
			n.param = new(node)
		}
		n = n.param
		p := pathParam{name: s.text, segment: i, secret: slices.Contains(op.Secrets, s.text)}
		b.params = append(b.params, p)
		if p.secret && !slices.Contains(c.markers, marker) {
			c.markers = append(c.markers, marker)
		}
	}
	if err := b.check(); err != nil {
		return err
	}
	if n.route == nil {
		n.route = new(route)
	}
	if err := n.route.add(b); err != nil {
		return err
	}
	c.depth = max(c.depth, len(segments))
	return nil
}

func (n *node) literal(text string) *node {
	next := n.literals[text]
	if next == nil {
		next = new(node)
		if n.literals == nil {
			n.literals = make(map[string]*node)
		}
		n.literals[text] = next
	}
	return next
}

func (r *route) add(b binding) error {
	if old := r.exact(b.operation.Method); old != nil {
		return fmt.Errorf("finding %s there already, as %s: drop one of the two", old.operation.Template, old.operation.Code)
	}
	r.bindings = append(r.bindings, b)
	if r.miss.operation == nil || len(b.operation.Secrets) > len(r.miss.operation.Secrets) {
		op := *b.operation
		op.Method, op.Code, op.Name, op.Changing, op.Secured = "", "", "", false, false
		op.Transfers, op.Offers = false, false
		r.miss = binding{operation: &op, params: b.params}
	}
	return nil
}

func (r *route) exact(method string) *binding {
	for i := range r.bindings {
		if r.bindings[i].operation.Method == method {
			return &r.bindings[i]
		}
	}
	return nil
}

// binding finds the operation for a method. HEAD asks for what GET would give,
// unless the API has an operation of its own for it.
func (r *route) binding(method string) *binding {
	b := r.exact(method)
	if b == nil && method == "HEAD" {
		b = r.exact("GET")
	}
	return b
}

// check keeps credentials out of everything that a match gives by name.
func (b *binding) check() error {
	op := b.operation
	for _, name := range op.Secrets {
		if b.param(name) == nil {
			return fmt.Errorf("finding no parameter {%s}, which is said to be a credential", name)
		}
	}
	for _, name := range []string{op.Target.ID, op.Target.Parent, op.Organization, op.Project} {
		if name == "" {
			continue
		}
		p := b.param(name)
		if p == nil {
			return fmt.Errorf("finding no parameter {%s}, which names its target, organization or project", name)
		}
		if p.secret {
			return fmt.Errorf("using {%s}, a credential, to name its target, organization or project: leave that empty", name)
		}
	}
	return nil
}

func (b *binding) param(name string) *pathParam {
	for i := range b.params {
		if b.params[i].name == name {
			return &b.params[i]
		}
	}
	return nil
}

type templateSegment struct {
	text  string // a parameter's name, or a literal
	param bool
}

func parseTemplate(template string) ([]templateSegment, error) {
	rest, ok := strings.CutPrefix(template, "/")
	if !ok {
		return nil, fmt.Errorf("reading its start: a template begins with a slash")
	}
	if rest == "" {
		return nil, nil
	}
	var segments []templateSegment
	params := make(map[string]bool)
	for text := range strings.SplitSeq(rest, "/") {
		s := templateSegment{text: text}
		if name, ok := strings.CutPrefix(text, "{"); ok {
			s.text, s.param = strings.TrimSuffix(name, "}"), true
			if name == s.text {
				return nil, fmt.Errorf("reading segment %q: make the parameter the whole segment", text)
			}
		}
		switch {
		case text == "":
			return nil, fmt.Errorf("reading an empty segment: drop the slash at the end, or the doubled one")
		case s.text == "" || strings.ContainsAny(s.text, "{}?#%"):
			return nil, fmt.Errorf("reading segment %q: it must be one {parameter} or plain text without ? # %%", text)
		case s.text == "." || s.text == "..":
			return nil, fmt.Errorf("reading segment %q: write the route without it", text)
		case s.param && params[s.text]:
			return nil, fmt.Errorf("reading segment %q: the parameter is there twice; rename one", text)
		}
		if s.param {
			params[s.text] = true
		}
		segments = append(segments, s)
	}
	if len(segments) > maxTemplateSegments || len(params) > maxTemplateParams {
		return nil, fmt.Errorf("counting %d segments and %d parameters: at most %d and %d are possible",
			len(segments), len(params), maxTemplateSegments, maxTemplateParams)
	}
	return segments, nil
}
