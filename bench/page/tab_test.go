//go:build servers

package page

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience is how long a condition may take to come true. It is long, so that a busy
// machine fails nothing.
const patience = 30 * time.Second

// tab is a window of a reader's own, with cookies and a history of its own. What goes wrong
// in it without anybody noticing fails the test, see watcher.
type tab struct {
	*testing.T
	*watcher
	ctx context.Context
}

// open opens an empty tab of somebody's; an email that is empty is nobody's.
func open(t *testing.T, email string) *tab {
	t.Helper()
	token := ""
	if email != "" {
		token = site.session(email, time.Hour)
	}
	return openWith(t, token)
}

func openWith(t *testing.T, token string) *tab {
	t.Helper()
	w := newWatcher()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(w.see))
	b := &tab{t, w, ctx}
	t.Cleanup(func() {
		w.report(t)
		cancel()
	})
	b.must(chromedp.Do(ctx))
	w.dismiss = func() { _ = chromedp.Do(ctx, do(page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{})) }
	b.size(1280, 900, false)
	b.call(do(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}))
	b.prefer("light")
	if token != "" {
		only := true
		b.call(do2(network.SetCookie, network.SetCookieParams{Name: cookie, Value: token, URL: site.url, HTTPOnly: &only, SameSite: network.CookieSameSiteLax}))
	}
	return b
}

// do makes an action of a command of the browser's protocol that answers nothing.
func do[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return do2(c, params)
}

// do2 is do of a command whose answer nobody needs.
func do2[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (b *tab) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *tab) call(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	b.must(chromedp.Do(ctx, steps...))
}

// size makes the window another size. A phone also has a finger instead of a mouse.
func (b *tab) size(width, height int64, phone bool) {
	b.Helper()
	b.call(
		do(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: phone}),
		do(emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: phone}),
	)
}

// prefer is what the reader's system says: light or dark. Nothing is animated.
func (b *tab) prefer(scheme string) {
	b.Helper()
	b.call(do(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}))
}

// visit enters an address, as into the browser's bar, and waits until it is loaded.
func (b *tab) visit(path string) {
	b.Helper()
	b.call(chromedp.Navigate(site.url + path))
}

func (b *tab) back() {
	b.Helper()
	b.step(-1)
}

// step goes along the history, as the browser's own buttons do.
func (b *tab) step(by int64) {
	b.Helper()
	history, err := chromedp.Run(b.ctx, chromedp.NavigationEntries())
	b.must(err)
	at := history.CurrentIndex + by
	if at < 0 || at >= int64(len(history.Entries)) {
		b.Fatalf("the history has %d addresses: there is none at %d", len(history.Entries), at)
	}
	b.call(do(page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: history.Entries[at].ID}))
}

// try is an expression's value; an error if the page is just going away.
func try[T any](b *tab, expression string) (value T, err error) {
	yes := true
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	r, err := chromedp.Run(ctx, func(ctx context.Context, t *chromedp.Target) (runtime.EvaluateResult, error) {
		return cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: expression, ReturnByValue: &yes, AwaitPromise: &yes})
	})
	if err != nil {
		return value, err
	}
	if e := r.ExceptionDetails; e != nil {
		text := e.Text
		if e.Exception != nil {
			text = e.Exception.Description
		}
		return value, fmt.Errorf("evaluating %.300s: %s", expression, text)
	}
	if len(r.Result.Value) == 0 {
		return value, nil
	}
	return value, json.Unmarshal(r.Result.Value, &value)
}

// eval is an expression's value. What it is asked by is no script of the page, so it is
// answered where scripts do not run.
func eval[T any](b *tab, expression string, args ...any) T {
	b.Helper()
	value, err := try[T](b, format(expression, args...))
	b.must(err)
	return value
}

// format puts values into an expression, each as a literal.
func format(expression string, args ...any) string {
	if len(args) == 0 {
		return expression
	}
	literals := make([]any, len(args))
	for i, arg := range args {
		j, err := json.Marshal(arg)
		if err != nil {
			panic(err)
		}
		literals[i] = string(j)
	}
	return fmt.Sprintf(expression, literals...)
}

// await waits until an expression is true.
func (b *tab) await(expression string, args ...any) {
	b.Helper()
	expression = format(expression, args...)
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		ok, err := try[bool](b, expression)
		if ok && err == nil {
			return
		}
		last = err
		time.Sleep(10 * time.Millisecond) // between two looks
	}
	where, _ := try[string](b, `location.href + "\n" + document.body?.innerText.slice(0, 1000)`)
	b.Fatalf("it did not come true: %s (%v)\nat %s", expression, last, where)
}

// there waits for an element.
func (b *tab) there(selector string) {
	b.Helper()
	b.await(`!!document.querySelector(%s)`, selector)
}

func (b *tab) text(selector string) string {
	b.Helper()
	return eval[string](b, `document.querySelector(%s)?.textContent.trim().replace(/\s+/g, " ") ?? "(there is no such element)"`, selector)
}

func (b *tab) count(selector string) int {
	b.Helper()
	return eval[int](b, `document.querySelectorAll(%s).length`, selector)
}

func (b *tab) path() string {
	b.Helper()
	return eval[string](b, `location.pathname`)
}

// param are the values that the address has of a name.
func (b *tab) param(name string) []string {
	b.Helper()
	return eval[[]string](b, `new URL(location.href).searchParams.getAll(%s)`, name)
}

// point is where a reader can hit an element: in sight, with nothing over it.
func (b *tab) point(selector string) (x, y float64) {
	b.Helper()
	type spot struct {
		X, Y float64
		Hit  bool
		Over string
	}
	const find = `(() => {
		const e = document.querySelector(%s);
		if (!e) return { Over: "there is no such element" };
		e.scrollIntoView({ block: "center", inline: "nearest", behavior: "instant" });
		const r = e.getClientRects()[0];
		if (!r || !r.width || !r.height) return { Over: "it is not shown" };
		const x = r.left + r.width / 2, y = r.top + r.height / 2;
		const hit = document.elementFromPoint(x, y);
		return { X: x, Y: y, Hit: !!hit && e.contains(hit), Over: hit ? hit.outerHTML.slice(0, 200) : "it is out of sight" };
	})()`
	var last spot
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if last, err = try[spot](b, format(find, selector)); err == nil && last.Hit {
			return last.X, last.Y
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
	b.Fatalf("%s cannot be hit: %s (%v)", selector, last.Over, err)
	return 0, 0
}

// click clicks an element with the mouse.
func (b *tab) click(selector string) {
	b.Helper()
	x, y := b.point(selector)
	b.mouse(input.DispatchMouseEventTypeMouseMoved, x, y)
	b.mouse(input.DispatchMouseEventTypeMousePressed, x, y)
	b.mouse(input.DispatchMouseEventTypeMouseReleased, x, y)
}

// follow clicks a link that leads to another part of the log, and waits until that is shown.
func (b *tab) follow(selector string) {
	b.Helper()
	before := eval[string](b, `location.href`)
	b.click(selector)
	b.await(`location.href !== %s && document.readyState === "complete" && !document.querySelector("main[aria-busy]")`, before)
}

func (b *tab) mouse(kind input.DispatchMouseEventType, x, y float64) {
	b.Helper()
	p := input.DispatchMouseEventParams{Type: kind, X: x, Y: y, Button: input.MouseButtonLeft, Buttons: 1, ClickCount: 1}
	switch kind {
	case input.DispatchMouseEventTypeMouseMoved:
		p.Button, p.ClickCount = input.MouseButtonNone, 0
	case input.DispatchMouseEventTypeMouseReleased:
		p.Buttons = 0
	}
	b.call(do(input.DispatchMouseEvent, p))
}

// keys presses keys, one after the other. What a key writes is part of its going down, so
// that a page that prevents the one prevents the other.
func (b *tab) keys(keys string) {
	b.Helper()
	for _, key := range keys {
		events := kb.Encode(key)
		for i, e := range events {
			if e.Type == kb.KeyChar {
				continue
			}
			if i+1 < len(events) && events[i+1].Type == kb.KeyChar {
				e.Type, e.Text = kb.KeyDown, events[i+1].Text
			}
			b.call(do(input.DispatchKeyEvent, *e))
		}
	}
}

// withoutScripts is how a reader sees the page whose browser runs none.
func (b *tab) withoutScripts() {
	b.Helper()
	b.call(do(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
}
