// Package machine asks the operating system about the machine: what lies under a path and how
// much room it has, whose a file is, how fast a disk syncs, whether something keeps the clock
// right, who holds a lock.
//
// It asks and measures, and judges nothing: what an answer means is for package doctor to say,
// and for the sizes that a person plans with. It knows nothing of Caddy, of entries or of the
// buffer, and imports no room of ours. What a system does not tell is ErrNotSaid, or false.
package machine
