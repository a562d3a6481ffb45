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
	// Claims are the paths of the claims that fill the actor's fields when a
	// JWT is verified, by the field's name.
	Claims map[string]string
}

// sessionClaims are the claims of platform supabase's sessions.
var sessionClaims = map[string]string{
	"user_id": "sub", "email": "email", "session_id": "session_id", "jwt_role": "role", "aal": "aal", "amr": "amr",
	"anonymous": "is_anonymous", "oauth_app_id": "client_id",
}

// openIDClaims are those that OpenID Connect and RFC 9068 register.
var openIDClaims = map[string]string{
	"user_id": "sub", "email": "email", "session_id": "sid", "amr": "amr", "oauth_app_id": "client_id",
}
