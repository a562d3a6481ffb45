package summary

import (
	"net/netip"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
)

// view is who sees that something occurs. What members of an organization do not see of an
// Attempt must not make their search faster or slower either.
type view byte

const (
	everybody view = 0
	operators view = 1
)

// key stands for a value of a facet. Keys are in files: they never change.
func key(v view, f forwarder.Facet, value string) uint64 {
	var buffer [256]byte
	b := append(buffer[:0], byte(v))
	b = append(b, f...)
	b = append(b, 0)
	return xxhash.Sum64(append(b, value...))
}

// statusClass is a value of FacetStatus that stands for all of a hundred statuses.
func statusClass(status int) string { return strconv.Itoa(status/100) + "xx" }

// prefixes are how long the networks are that an address is in, in bits of its 16 bytes:
// for IPv4 from /8 on in steps of four.
var prefixes = []int{32, 48, 56, 64, 96, 104, 108, 112, 116, 120, 124, 128}

// network stands for those of one length around an address.
func network(address []byte, length int) string {
	a, ok := netip.AddrFromSlice(address)
	if !ok {
		return ""
	}
	p, err := a.Prefix(length)
	if err != nil {
		return ""
	}
	b := p.Addr().As16()
	return string(append(b[:], byte(length)))
}

// valueKeys calls add with all of a Brief.
func valueKeys(v view, b *audit.Brief, add func(uint64)) {
	of := func(f forwarder.Facet, values ...string) {
		for _, value := range values {
			if value != "" {
				add(key(v, f, value))
			}
		}
	}
	of(forwarder.FacetActor, b.Actor, b.Email)
	of(forwarder.FacetProject, b.Project)
	of(forwarder.FacetAction, b.Action)
	of(forwarder.FacetMethod, b.Method)
	of(forwarder.FacetTokenType, string(b.TokenType))
	of(forwarder.FacetOutcome, string(b.Outcome))
	of(forwarder.FacetTarget, b.TargetType, b.Target)
	of(forwarder.FacetStatus, strconv.Itoa(b.Status), statusClass(b.Status))
	if b.Address != nil {
		for _, length := range prefixes {
			of(forwarder.FacetNetwork, network(b.Address, length))
		}
	}
}

// gramBytes is how many bytes of a text a gram has.
const gramBytes = 3

// gramKey stands for a gram. It is a permutation of what it is made of (the finalizer of
// MurmurHash3), so that no two grams share one.
func gramKey(v view, gram string) uint64 {
	h := uint64(v)<<24 | uint64(gram[0])<<16 | uint64(gram[1])<<8 | uint64(gram[2]) | 1<<32
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// textKeys calls add with what a folded text is found by: its grams, and the ids in it,
// whole. Hardly a gram of hexadecimal digits does not occur among a few hundred ids, so
// these are left out, and whoever looks for a part of an id is told nothing.
func textKeys(v view, text string, add func(uint64)) {
	for i := 0; i+gramBytes <= len(text); i++ {
		gram := text[i : i+gramBytes]
		if !isHex(gram[0]) || !isHex(gram[1]) || !isHex(gram[2]) {
			add(gramKey(v, gram))
		}
	}
	ids(text, func(id string) { add(key(v, facetID, id)) })
}

// facetID is a facet that no filter has.
const facetID forwarder.Facet = "id in a text"

// The lengths of ids in a text: a UUID, and 16 bytes in hexadecimal digits.
const (
	uuidBytes = 36
	hexBytes  = 32
)

// ids calls visit with all ids in a text. In a longer run of digits each 32 are one, so
// that what has a text with an id in it has that id.
func ids(text string, visit func(string)) {
	run := 0 // of hexadecimal digits, before i
	for i := range len(text) {
		if isHex(text[i]) && text[i] != '-' {
			run++
		} else {
			run = 0
		}
		if run >= hexBytes {
			visit(text[i+1-hexBytes : i+1])
		}
		if i+1 >= uuidBytes && isUUID(text[i+1-uuidBytes:i+1]) {
			visit(text[i+1-uuidBytes : i+1])
		}
	}
}

func isUUID(s string) bool {
	// The dashes first: most texts have none there.
	if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	for i := range uuidBytes {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; !isHex(s[i]) || (s[i] == '-') != dash {
			return false
		}
	}
	return true
}

// isHex reports whether a byte may be part of an id.
func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c == '-' }
