//go:build servers

package page

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "a `directory`, from the module's root, that gets the pictures of the documentation")

var (
	// site is what all tests read. Tests do not change what others look at: who makes an
	// event of an organization has that organization to itself.
	site *server
	// browser is the context of the one Chromium; each test has a profile of its own in it.
	browser context.Context
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	chromium, err := findChromium()
	if err != nil {
		return 1, err
	}
	if site, err = startServer(); err != nil {
		return 1, fmt.Errorf("starting the site: %w", err)
	}
	defer func() { err = errors.Join(err, site.stop()) }()
	profile, err := os.MkdirTemp("", "audit-page-profile-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(profile)) }()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.UserDataDir(profile),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("lang", "en-GB"), chromedp.Env("LANGUAGE=en", "TZ=UTC"))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	defer stop()
	ctx, cancel := chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		return 1, fmt.Errorf("starting %s: %w", chromium, err)
	}
	browser = ctx //nolint:fatcontext // assigned once, for all tests
	defer func() { err = errors.Join(err, chromedp.Cancel(browser)) }()
	return m.Run(), nil
}

// findChromium is the browser's program. Without one nothing can be shown, so that is a
// failure.
func findChromium() (string, error) {
	for _, name := range []string{"/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("looking for Chromium: there is none in /usr/bin or PATH: apt-get install chromium")
}
