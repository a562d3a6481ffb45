// Package operator is what an operator asks of an audit log, and what the answers are: the admin
// routes with their questions, orders and answers, the terms of both conservation equations, and
// what is computed for an answer from the stores and from what the buffer holds: a search, how
// long an entry is kept and why, whether anything is lost, what is in quarantine.
//
// The running server answers by it, in package caddymodule, and so do the commands of package
// commands from the files when no server runs; what both say is therefore the same. It reads, and
// changes nothing: orders are only described and checked here. It knows no configuration beyond
// the stores and their terms, no running server, and no command line.
package operator
