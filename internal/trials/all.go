//go:build trials

package trials

const all = true
