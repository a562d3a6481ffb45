// Package stamps are the options of the global block by which entries are stamped when they are
// delivered: whose a call is and which plan that organization has, how long entries are kept, and
// how far back a plan may read.
//
// It reads and checks these options, and describes them for the entry that tells of a change. What
// comes of them is for packages audit and forwarder/attribution; asking is theirs too. It knows no
// entry on its way, no store, and no running server.
package stamps
