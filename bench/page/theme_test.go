//go:build servers

package page

import "testing"

// isDark looks at what is painted under everything.
const isDark = `getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g).slice(0, 3).every((c) => c < 60)`

func TestThePageIsLightOrDarkAsTheReadersSystemOrTheReader(t *testing.T) {
	b := open(t, memberEmail)
	b.visit(logOf(acme))
	b.await(`!(` + isDark + `)`)
	b.prefer("dark")
	b.await(isDark)
	b.click("#theme")
	b.await(`!(` + isDark + `)`)
	b.visit(logOf(acme) + "?range=7d") // it is remembered
	b.await(`!(` + isDark + `)`)
	b.prefer("light")
	b.click("#theme")
	b.await(isDark)
	b.visit(logOf(acme))
	b.await(isDark)
}
