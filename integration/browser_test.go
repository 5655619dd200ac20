package integration

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/remote"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// browser is a headless Chromium with one page. It ends with the test, however that does.
type browser struct {
	t      testing.TB
	page   context.Context
	target *chromedp.Target

	mu        sync.Mutex
	origin    string   // of the page that is open
	requested []string // URLs
	said      []string // what it reported: violations of the policy, errors
}

var devTools = regexp.MustCompile(`DevTools listening on (ws://\S+)`)

func newBrowser(t testing.TB) *browser {
	t.Helper()
	p := pgtest.Command(t, "/usr/bin/chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions",
		"--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0", "--user-data-dir="+newDir(t), "about:blank").Start()
	p.WaitOutput("DevTools listening on", patience)
	alloc, cancel := remote.NewAllocator(t.Context(), devTools.FindStringSubmatch(p.Stderr())[1], remote.NoModifyURL, remote.WithDialTimeout(patience))
	t.Cleanup(cancel)
	b := &browser{t: t}
	b.page, cancel = chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	if _, err := chromedp.Run(b.page, func(_ context.Context, target *chromedp.Target) (chromedp.Void, error) {
		b.target = target
		return chromedp.Void{}, nil
	}); err != nil {
		t.Fatal(err)
	}
	listen(b, network.RequestWillBeSent, func(e network.EventRequestWillBeSent) { b.requested = append(b.requested, e.Request.URL) })
	listen(b, log.EntryAdded, func(e log.EventEntryAdded) { b.said = append(b.said, e.Entry.Text) })
	listen(b, runtime.ConsoleAPICalled, func(e runtime.EventConsoleAPICalled) { b.said = append(b.said, "console "+string(e.Type)) })
	listen(b, runtime.ExceptionThrown, func(e runtime.EventExceptionThrown) { b.said = append(b.said, e.ExceptionDetails.Text) })
	tell(b, log.Enable, cdp.Empty{})
	tell(b, network.Enable, network.EnableParams{})
	tell(b, runtime.Enable, cdp.Empty{})
	tell(b, accessibility.Enable, cdp.Empty{})
	return b
}

// listen notes what the browser tells, until it ends.
func listen[E any](b *browser, event cdp.Event[E], note func(E)) {
	events := cdp.Events(b.page, b.target, event)
	go func() {
		for e, err := range events {
			if err != nil {
				return
			}
			b.mu.Lock()
			note(e)
			b.mu.Unlock()
		}
	}()
}

// tell gives the browser a command.
func tell[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return run(b, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	})
}

func run[R any](b *browser, action chromedp.Action[R]) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.page, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// open goes to the page of a receiver. From now on it counts what the browser asks for and says.
func (b *browser) open(origin string) {
	b.t.Helper()
	b.mu.Lock()
	b.origin, b.requested, b.said = origin, nil, nil
	b.mu.Unlock()
	run(b, chromedp.Navigate(origin+"/"))
}

// look makes the page so wide, in a colour scheme.
func (b *browser) look(width int64, scheme string) {
	b.t.Helper()
	tell(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500})
	tell(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	run(b, chromedp.Evaluate[bool]("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))", chromedp.EvalAwaitPromise))
}

// text is what stands in an element.
func (b *browser) text(selector string) string {
	b.t.Helper()
	quoted, _ := json.Marshal(selector)
	return run(b, chromedp.Evaluate[string]("(e => e ? e.innerText : '')(document.querySelector("+string(quoted)+"))"))
}

// shows waits until an element has a text.
func (b *browser) shows(selector, text string) {
	b.t.Helper()
	got := ""
	for end := time.Now().Add(patience); !strings.Contains(got, text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s shows %q, want %q", selector, got, text)
		}
		got = b.text(selector)
	}
}

// shoot keeps pictures of a state, wide and narrow, light and dark, where somebody wants
// to look at them.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("WALRECV_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, c := range []struct {
		width        int64
		scheme, name string
	}{{1120, "light", "light"}, {1120, "dark", "dark"}, {390, "light", "phone"}} {
		b.look(c.width, c.scheme)
		png := run(b, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(dir, name+"-"+c.name+".png"), png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	b.look(1120, "light")
}

// quiet fails if the browser had to say anything, or left the origin.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.said) > 0 {
		b.t.Errorf("the browser says %q", b.said)
	}
	if len(b.requested) == 0 {
		b.t.Error("nothing was asked for")
	}
	for _, url := range b.requested {
		if url != "about:blank" && !strings.HasPrefix(url, b.origin+"/") && !strings.HasPrefix(url, "data:") {
			b.t.Errorf("%s was asked for", url)
		}
	}
}
