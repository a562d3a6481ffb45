//go:build servers

package page

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddy-audit-log/caddy-audit-log/internal/sample"
)

const (
	memberEmail   = "ada@acme.example"
	strangerEmail = "mallory@evil.example"
	operatorEmail = "olga@operator.example"
)

// The organizations of the tests. All but the first two have the plan team.
var (
	acme = sample.OrganizationOf(0) // is only read
	free = sample.OrganizationOf(1)
	// These get events or calls of one test each.
	exporting = sample.OrganizationOf(3)
	watched   = sample.OrganizationOf(8)
	calling   = sample.OrganizationOf(11)
	plainly   = sample.OrganizationOf(16)
	// foreign is one that the platform's API does not give to operators, as it does those
	// above; nor to members.
	foreign = sample.OrganizationOf(19)
	// quiet has no entries.
	quiet = sample.Organization{ID: "id-of-quiet", Slug: "quiet", Name: "Quiet", Plan: "team"}
	// hostile has entries that somebody made to do harm, and such a name.
	hostile = sample.Organization{ID: "id-of-hostile", Slug: "hostile", Name: script, Plan: "team"}
	// doubted has an attempt that nothing proves to be of a member.
	doubted = sample.Organization{ID: "id-of-doubted", Slug: "doubted", Name: "Doubted", Plan: "team"}
)

// broken is the organization for which the platform's API fails.
const broken = "broken"

// platform is the API of which the sidecar stands in front. It knows who is a member by
// the token's email, and believes every token: the tests' own are the only ones.
func platform(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	email := emailOf(r.Header.Get("Authorization"))
	slug, asked := strings.CutPrefix(r.URL.Path, "/v1/organizations/")
	switch {
	case email == "":
		w.WriteHeader(http.StatusUnauthorized)
	case slug == broken:
		w.WriteHeader(http.StatusInternalServerError)
	case asked && r.Method == http.MethodGet:
		for _, o := range []sample.Organization{acme, free, exporting, watched, calling, plainly, quiet, hostile, doubted} {
			if o.Slug == slug && (email == memberEmail || email == operatorEmail) {
				_ = json.NewEncoder(w).Encode(map[string]string{"id": o.ID, "slug": o.Slug, "name": o.Name, "plan": o.Plan})
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	default:
		fmt.Fprint(w, "{}")
	}
}

func emailOf(authorization string) string {
	parts := strings.Split(strings.TrimPrefix(authorization, "Bearer "), ".")
	if len(parts) != 3 {
		return ""
	}
	var claims struct{ Email string }
	b, _ := base64.RawURLEncoding.DecodeString(parts[1])
	_ = json.Unmarshal(b, &claims)
	return claims.Email
}

// session is a token that signs somebody in, for some time from now.
func (s *server) session(email string, valid time.Duration) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: s.secret}, nil)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": issuer, "sub": "id-of-" + email, "aud": "authenticated", "iat": now.Add(-2 * time.Hour).Unix(), "exp": now.Add(valid).Unix(),
		"email": email, "role": "authenticated", "session_id": "session-of-" + email, "aal": "aal1",
	}).Serialize()
	if err != nil {
		panic(err)
	}
	return token
}
