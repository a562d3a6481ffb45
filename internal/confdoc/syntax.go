package confdoc

import (
	"slices"
	"strings"
)

// node is a line of a Caddyfile's syntax, with the block that it opens.
type node struct {
	line     string
	parent   *node
	children []*node
	claimed  bool // by a field
}

// syntaxIn is the syntax in a doc comment, without its indentation.
func syntaxIn(doc string) string {
	_, after, ok := strings.Cut(doc, "Syntax:\n\n")
	if !ok {
		return ""
	}
	var lines []string
	for line := range strings.SplitSeq(after, "\n") {
		rest, indented := strings.CutPrefix(line, "\t")
		if !indented {
			break
		}
		lines = append(lines, rest)
	}
	return strings.Join(lines, "\n")
}

// parseSyntax returns the first line of a syntax with all below it; nil for none.
func parseSyntax(text string) *node {
	root := new(node)
	stack := []*node{root}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.Join(strings.Fields(line), " ")
		if line == "" {
			continue
		}
		if line == "}" {
			stack = stack[:len(stack)-1]
			continue
		}
		header, opens := strings.CutSuffix(line, " {")
		top := stack[len(stack)-1]
		n := &node{line: header, parent: top}
		top.children = append(top.children, n)
		if opens {
			stack = append(stack, n)
		}
	}
	if len(root.children) == 0 {
		return nil
	}
	return root.children[0]
}

// isRest says that a line stands for others, or for what no field is.
func (n *node) isRest() bool {
	return slices.ContainsFunc([]string{"…", "...", "@", "<the "}, func(p string) bool { return strings.HasPrefix(n.line, p) })
}

// name is what a line begins with.
func (n *node) name() string {
	name, _, _ := strings.Cut(n.line, " ")
	return name
}

// option is the line of an option that a field has, by its JSON name or the singular of it;
// the first, where there are several. Where the options stand in one line, that is it.
func (n *node) option(json string) (first *node) {
	if n == nil || json == "" {
		return nil
	}
	if len(n.children) == 0 {
		return n
	}
	for _, c := range n.children {
		if name := c.name(); name == json || name+"s" == json || name+"es" == json {
			c.claimed = true
			if first == nil {
				first = c
			}
		}
	}
	return first
}

// claim finds the lines that a comment names by what they begin with: in the block, or
// above it. It returns the first, and nil if there is none of one of the forms.
func (n *node) claim(forms string) (first *node) {
	if n == nil {
		return nil
	}
	for form := range strings.SplitSeq(forms, ", or ") {
		begins := func(c *node) bool {
			return strings.HasPrefix(c.line+" ", form+" ") || strings.HasPrefix(unbracketed(c.line)+" ", form+" ")
		}
		if first, _, _ := strings.Cut(form, " "); len(n.children) == 0 && slices.Contains(strings.Split(first, "|"), n.name()) {
			begins = func(c *node) bool { return c == n } // it spells out a part of its line
		}
		found := false
		for _, c := range slices.Concat([]*node{n}, n.children, n.parent.siblings()) {
			if !begins(c) || found && c.parent != n {
				continue
			}
			c.claimed, found = true, true
			if first == nil {
				first = c
			}
		}
		if !found {
			return nil
		}
	}
	return first
}

// unbracketed is a line with what may be left out in it.
func unbracketed(line string) string { return strings.NewReplacer("[", "", "]", "").Replace(line) }

func (n *node) siblings() []*node {
	if n == nil {
		return nil
	}
	return n.children
}

// unclaimed are the lines of the block that no field has.
func (n *node) unclaimed() (list []*node) {
	for _, c := range n.children {
		if !c.claimed && !c.isRest() {
			list = append(list, c)
		}
	}
	return list
}
