// Package catalogs reads the descriptions of a site's own API, and puts what they say over what
// its platform knows: from a file or a URL, whose last good copy serves while the URL is down.
//
// What a description means is for package audit and audit/description to say. This package
// fetches, bounds, keeps copies and warns; it knows no handler and no call.
package catalogs
