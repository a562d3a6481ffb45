package audit

// Platform is what the sidecar knows about one kind of API. It never changes,
// so it is safe for concurrent use.
type Platform struct {
	// Name is the word for it in the Caddyfile.
	Name string
	// Catalog may be nil: then Guess gives each call its route and target.
	Catalog *Catalog
	// Tokens are the shapes of its credentials, tried in order.
	Tokens []TokenShape
}
