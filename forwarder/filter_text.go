package forwarder

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What is taken of the filters that somebody writes.
const (
	// MaxFilterValues bounds the values of all filters of one query together.
	MaxFilterValues = 100
	// MaxFilterValue bounds one of them, in bytes.
	MaxFilterValue = 512
)

// The errors of this file do not repeat what was written, which may be a credential in
// the wrong place. They go on behind the name of the filter, as in "status is …".
var (
	errNoStatus  = errors.New("is a number as in 404, a class as in 4xx, or a range as in 400-499")
	errNoNetwork = errors.New("is an address or a network, as in 203.0.113.7 or 203.0.113.0/24")
	errNoText    = fmt.Errorf("is longer than %d bytes, or no text", MaxFilterValue)
	errNoFilter  = errors.New("is no filter")
)

// CheckFilterValue returns an error for a value that is no UTF-8 or is longer than
// MaxFilterValue.
func CheckFilterValue(value string) error {
	if len(value) > MaxFilterValue || !utf8.ValidString(value) {
		return errNoText
	}
	return nil
}

// Add adds a value as people write it to the filter of a facet. The values of a facet are
// alternatives. Methods are written in small letters or in capitals, Statuses as
// ParseStatus reads them, Networks as ParseNetwork does. An error, as of a facet that
// there is not, leaves the filters as they are.
func (f *Filters) Add(by Facet, value string) error {
	if err := CheckFilterValue(value); err != nil {
		return err
	}
	switch by {
	case FacetActor:
		f.Actors = append(f.Actors, value)
	case FacetProject:
		f.Projects = append(f.Projects, value)
	case FacetAction:
		f.Actions = append(f.Actions, value)
	case FacetMethod:
		f.Methods = append(f.Methods, strings.ToUpper(value))
	case FacetTarget:
		f.Targets = append(f.Targets, value)
	case FacetTokenType:
		f.TokenTypes = append(f.TokenTypes, value)
	case FacetOutcome:
		f.Outcomes = append(f.Outcomes, value)
	case FacetStatus:
		span, err := ParseStatus(value)
		if err != nil {
			return err
		}
		f.Statuses = append(f.Statuses, span)
	case FacetNetwork:
		network, err := ParseNetwork(value)
		if err != nil {
			return err
		}
		f.Networks = append(f.Networks, network)
	default:
		return errNoFilter
	}
	return nil
}

// ParseStatus reads a status as in 404, a class as in 4xx, or a range as in 400-499. A
// status is a number from 0, which entries without an answer have, to 999.
func ParseStatus(s string) (StatusRange, error) {
	if len(s) == 3 && strings.HasSuffix(strings.ToLower(s), "xx") && s[0] >= '1' && s[0] <= '5' {
		first := int(s[0]-'0') * 100
		return StatusRange{First: first, Last: first + 99}, nil
	}
	text, end, ok := strings.Cut(s, "-")
	if !ok {
		end = text
	}
	first, err := strconv.Atoi(text)
	if err != nil || first < 0 || first > 999 {
		return StatusRange{}, errNoStatus
	}
	last, err := strconv.Atoi(end)
	if err != nil || last < first || last > 999 {
		return StatusRange{}, errNoStatus
	}
	return StatusRange{First: first, Last: last}, nil
}

// ParseNetwork reads an address, which is the network of itself alone, or a network. An
// address beyond the network's bits counts as the network's first, a zone is left out, and
// an IPv4 address that is mapped into IPv6 is the IPv4 one.
func ParseNetwork(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if p, err := netip.ParsePrefix(s); err == nil {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || strings.Contains(s, "/") { // a zone would take any end of the text
		return netip.Prefix{}, errNoNetwork
	}
	a = a.WithZone("").Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}
