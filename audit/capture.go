package audit

// Capture is an allow-list: what of a call is recorded beside its metadata.
// Everything that it does not name stays out of the entry.
//
// Body and Response hold paths from the root of a JSON body: names joined by
// dots, * for each element of a list, \. for a dot in a name. A path to an
// object or a list takes all of it. Query and Header hold names.
type Capture struct {
	Body, Query, Header, Response []string
}

// IsZero reports whether it names nothing.
func (c *Capture) IsZero() bool {
	return len(c.Body) == 0 && len(c.Query) == 0 && len(c.Header) == 0 && len(c.Response) == 0
}
