package oracle

import (
	"fmt"
	"strings"
)

// Kind is a sort of call that carries the oracle's own id as a value in its
// path, so that the id comes back as the entry's target.
type Kind struct {
	Method   string
	Template string
	// Target is the target type; Param is the parameter that holds the id.
	Target, Param string
	// ID makes the n-th id in the shape of the parameter.
	ID func(n uint64) string
}

// project stands in every path that has a project besides the id.
const project = "oracleoracleoracleor"

// Kinds are the changing calls.
var Kinds = []Kind{
	{"PATCH", "/v1/projects/{ref}/functions/{function_slug}", "edge_function", "function_slug", slug},
	{"DELETE", "/v1/projects/{ref}/functions/{function_slug}", "edge_function", "function_slug", slug},
	{"PATCH", "/v1/projects/{ref}/api-keys/{id}", "api_key", "id", uuid},
	{"DELETE", "/v1/projects/{ref}/database/jit/{user_id}", "jit_access", "user_id", uuid},
	{"PUT", "/v1/projects/{ref}/config/auth/sso/providers/{provider_id}", "sso_provider", "provider_id", uuid},
	{"POST", "/v1/projects/{ref}/pause", "project", "ref", ref},
	{"POST", "/v1/branches/{branch_id_or_ref}/push", "branch", "branch_id_or_ref", ref},
}

// ReadKind stands for reads: their outcome is durable before the answer, but
// they have no intent.
var ReadKind = Kind{"GET", "/v1/projects/{ref}/functions/{function_slug}", "edge_function", "function_slug", slug}

// Read says whether the call changes nothing.
func (k *Kind) Read() bool { return k.Method == "GET" }

// Path is where the call with an id is sent.
func (k *Kind) Path(id string) string {
	p := strings.ReplaceAll(k.Template, "{"+k.Param+"}", id)
	return strings.ReplaceAll(p, "{ref}", project)
}

// Project is the project that the entry must name.
func (k *Kind) Project(id string) string {
	switch {
	case k.Param == "ref":
		return id
	case strings.Contains(k.Template, "{ref}"):
		return project
	}
	return ""
}

func slug(n uint64) string { return fmt.Sprintf("call-%d", n) }

func uuid(n uint64) string { return fmt.Sprintf("0acade00-0000-4000-a000-%012x", n) }

// ref writes n with letters only, as project refs are.
func ref(n uint64) string {
	b := []byte("call" + strings.Repeat("a", 16))
	for i := len(b) - 1; n > 0; i-- {
		b[i] = 'a' + byte(n%26)
		n /= 26
	}
	return string(b)
}
