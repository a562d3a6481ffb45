// Package attack is what the programs that harm the product's disk share:
// calls with an id each, a stub API that notes which of them reached it, the
// clients that send them, and the comparison of what happened with what was
// stored.
package attack
