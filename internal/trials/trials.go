// Package trials says how much is tried of what has no end. Only tests import it.
package trials

// Rounds is how often something random is tried: few times by the tests that each change
// must pass, and many times by those behind the build tag trials.
func Rounds(few, many int) int {
	if all {
		return many
	}
	return few
}
