//go:build !trials

package trials

const all = false
