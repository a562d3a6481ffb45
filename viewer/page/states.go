package page

import "cmp"

type statePage struct {
	head
	Kind        string
	Heading     string
	Text        string
	Message     string
	Next        []choice
	RangesLabel string
	Ranges      []choice
}

// stateTexts are what each state says, and what its link is called.
var stateTexts = map[Kind]struct{ heading, text, link string }{
	SignedOut:     {"Sign in to read this log", "You are not signed in, or your session has ended. Sign in, then open this page again.", "Sign in"},
	NoPermission:  {"You may not read this log", "Ask an owner or an administrator of the organization for access, or sign in as somebody who has it.", "Sign in as somebody else"},
	NotEntitled:   {"The plan has no audit logs", "Upgrade the organization to a plan with audit logs to read them here.", "Upgrade the plan"},
	RangeTooLarge: {"That is too much time at once", "Choose a shorter range. All of a longer one can be had piece by piece.", ""},
	BadRequest:    {"This address cannot be understood", "Something in it is not as it should be. Correct it, or begin again without filters.", ""},
	NotFound:      {"There is nothing here", "The address may be mistyped, the entry may have expired, or it belongs to another organization.", ""},
	Failed:        {"The log could not be read", "This is about reading alone, and says nothing of what is recorded. Try again in a moment.", ""},
}

func newStatePage(s *State) *statePage {
	text, ok := stateTexts[s.Kind]
	kind := s.Kind
	if !ok {
		kind, text = Failed, stateTexts[Failed]
	}
	p := &statePage{
		head: newHead(s.Frame, text.heading), Kind: string(kind), Heading: text.heading, Text: text.text,
		Message: visible(clip(s.Message, fieldText)),
	}
	if link := safeLink(s.Link); link != "" {
		p.Next = append(p.Next, choice{Label: cmp.Or(text.link, "Go on"), URL: link})
	}
	if s.View.slug == "" {
		p.Next = append(p.Next, choice{Label: "Choose an organization", URL: "/"})
		return p
	}
	switch kind {
	case RangeTooLarge:
		p.RangesLabel = "Shorter ranges"
		for _, r := range Ranges {
			p.Ranges = append(p.Ranges, choice{Label: r.Label, URL: s.View.Last(r.Name).URL()})
		}
	case BadRequest:
		p.Next = append(p.Next, choice{Label: "Begin again without filters", URL: View{slug: s.View.slug}.URL()})
	case NotFound:
		p.Next = append(p.Next, choice{Label: "Back to the log", URL: s.View.URL()})
	case Failed:
		p.Next = append(p.Next, choice{Label: "Try again", URL: s.View.URL()})
	default:
		p.Next = append(p.Next, choice{Label: "Choose another organization", URL: "/"})
	}
	return p
}

type startPage struct {
	head
	Organizations []choice
	Param         string
	Slug, Message string
}

func newStartPage(s *Start) *startPage {
	p := &startPage{head: newHead(s.Frame, "Audit logs"), Param: ParamOrganization, Slug: s.Slug, Message: visible(clip(s.Message, fieldText))}
	for _, o := range s.Organizations {
		if v, err := ParseView(o.Slug, nil); err == nil && o.Slug != "" {
			p.Organizations = append(p.Organizations, choice{Value: visible(o.Slug), Label: newText(cmp.Or(o.Name, o.Slug), cellText).Shown, URL: v.URL()})
		}
	}
	return p
}
