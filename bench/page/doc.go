// Package page tests the audit log's page as its readers meet it: in a real browser,
// served by a real Caddy with the shipped handlers, over a store with a month of entries.
// What the page shows is compared with the entries that the store was filled with.
//
// It needs Chromium (apt-get install chromium), so its tests are behind a build tag:
//
//	go test -tags servers ./bench/page
//
// They also take the pictures of the documentation:
//
//	go test -tags servers ./bench/page -run Screenshots -screenshots docs/images
//
// Nothing of it is part of the product.
package page
