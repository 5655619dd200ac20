package integration

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"

	"github.com/walrecv/walrecv/internal/basebackup"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// TestPage looks at the status page of one receiver while it streams, while the archive
// and then the server is away, after a failover, and when it has ended.
func TestPage(t *testing.T) {
	t.Parallel()
	major := pgtest.Version(t)
	pgtest.Only(t, major, major >= basebackup.MinMajor, "walrecv takes no base backups of it")
	c := newPrimary(t, major)
	s := standbyOf(t, c, c, nil)
	archive := newArchive(t)
	r := watched(newReceiver(t, c, "-d", allOf(c, s)+" target_session_attrs=primary", "--archive", archive, "--tail-interval", "100ms"), "--ready-lag", "5s", "--slot-stats").start()
	emit(c, 3000)
	(&backups{t: t, bin: r.bin, url: archive, dir: archive, c: c}).create(c)
	c.Exec("select pg_create_restore_point('before the upgrade')")
	emit(c, 3000)
	mark(c, "1")
	r.flushed()

	b := newBrowser(t)
	b.look(1120, "light")
	b.open("http://" + r.address())
	b.shows("#headline", "Streaming and archiving")
	b.shows("#cluster", c.SystemID())
	b.shows("#windows", "with 1 base backup")
	b.shows("#backups", "good")
	b.shows("#drill", "none")
	b.shows("#figures", "reserved")
	b.shows("#rate-words", "MB")
	b.keepsUp(c)
	b.silently(func() { b.keepsUp(c); b.keepsUp(c) })
	b.isAccessible("Server where", "Received over", "Written to", "Flushed durable", "Sealed in", "Archived in")
	b.isNotCut()
	b.shoot("streaming")

	rename(t, archive, archive+".away")
	emit(c, 1500)
	b.shows("#headline", "Streaming, not archiving")
	b.shows("#problems", "behind: ") // and why
	b.shows("#problems", "See that the archive answers")
	b.isNotCut()
	b.shoot("archive-away")
	rename(t, archive+".away", archive)
	b.shows("#headline", "Streaming and archiving")

	c.Kill9()
	b.shows("#headline", "Not streaming")
	b.shows("#problems", "See that the server runs")
	b.isNotCut()
	b.shoot("server-away")
	s.Promote()
	b.shows("#headline", "Streaming and archiving")
	b.shows("#cluster", "timeline 2")
	mark(s, "2")
	b.keepsUp(s)
	b.shows("#timelines", "1 at ") // where it left timeline 1
	b.isAccessible("Drawing of 2 timelines")
	b.isNotCut()
	b.shoot("failover")
	b.quiet()

	r.stop()
	b.shows("#headline", "The receiver does not answer")
	b.shoot("ended")

	// Without an archive there are the positions alone.
	r = watched(fresh(t, s, "-S", "alone", "--ensure-slot")).start()
	b.open("http://" + r.address())
	b.shows("#headline", "Streaming")
	b.keepsUp(s)
	if shown := b.text("main"); strings.Contains(strings.ToLower(shown), "archive") {
		t.Errorf("of an archive: %s", shown)
	}
	b.isNotCut()
	b.shoot("without-archive")
	b.quiet()
	r.stop()
}

// keepsUp begins a segment and writes a little, and waits until every position on the page
// is beyond that. One that stood still would not get there.
func (b *browser) keepsUp(c *pgtest.Cluster) {
	b.t.Helper()
	c.Exec("select pg_switch_wal()")
	emit(c, 64)
	want, err := segment.ParseLSN(c.FlushLSN())
	if err != nil {
		b.t.Fatal(err)
	}
	begun := segment.Size(c.SegmentSize).Floor(want)
	shown := map[string]string{}
	pgtest.Eventually(b.t, patience, func() bool {
		shown = run(b, chromedp.Evaluate[map[string]string](`Object.fromEntries([...document.querySelectorAll("#positions tbody tr")].map(e => [e.id, e.cells[1].innerText]))`))
		for row, text := range shown {
			at, err := segment.ParseLSN(text)
			if err != nil || at < begun || at < want && row != "at-sealed" {
				return false
			}
		}
		return len(shown) >= 5
	}, "the page does not get to %s: %v", want, &shown)
}

// silently does something, of which a screen reader is told no more often than something else
// is wrong: that numbers change is no news.
func (b *browser) silently(do func()) {
	b.t.Helper()
	run(b, chromedp.Evaluate[bool](`window.told = 0; new MutationObserver(() => window.told++).observe(document.body, {subtree: true, childList: true, characterData: true});
		window.spoken = [document.getElementById("said").textContent];
		new MutationObserver(() => window.spoken.push(document.getElementById("said").textContent)).observe(document.getElementById("said"), {subtree: true, childList: true, characterData: true}); true`))
	do()
	if told := run(b, chromedp.Evaluate[int]("window.told")); told == 0 {
		b.t.Error("nothing has changed at all")
	}
	spoken := run(b, chromedp.Evaluate[[]string]("window.spoken"))
	for i, text := range spoken[1:] {
		if without := regexp.MustCompile(`[0-9.]+m?s?`); without.ReplaceAllString(text, "") == without.ReplaceAllString(spoken[i], "") {
			b.t.Errorf("said again: %q after %q", text, spoken[i])
		}
	}
}

// isAccessible looks for landmarks, headings and names in what a screen reader gets.
func (b *browser) isAccessible(names ...string) {
	b.t.Helper()
	var nodes []string
	for _, n := range tell(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if !n.Ignored && n.Role != nil && n.Name != nil {
			var role, name string
			if json.Unmarshal(n.Role.Value, &role) == nil && json.Unmarshal(n.Name.Value, &name) == nil {
				nodes = append(nodes, role+": "+name)
			}
		}
	}
	for _, want := range append([]string{
		"banner: ", "main: ", "contentinfo: ", "status: ", "region: Positions", "region: The last hour", "heading: Streaming",
		"image: WAL received, in bytes per second: ", "image: Time behind the server: ", "columnheader: Behind the server", "region: What can be recovered",
	}, names...) {
		if !slices.ContainsFunc(nodes, func(n string) bool {
			return strings.HasPrefix(n, want) || strings.HasPrefix(n, "rowheader: "+want) || strings.HasPrefix(n, "image: "+want)
		}) {
			b.t.Errorf("a screen reader gets no %q", want)
		}
	}
	if b.t.Failed() {
		b.t.Log(strings.Join(nodes, "\n"))
	}
}

// isNotCut checks that on a narrow screen nothing lies beyond its edges.
func (b *browser) isNotCut() {
	b.t.Helper()
	b.look(360, "dark")
	var cut []string
	pgtest.Eventually(b.t, patience, func() bool { // once it is drawn for that width
		cut = run(b, chromedp.Evaluate[[]string](`[...document.querySelectorAll("body *")].filter(e => !e.closest("script, defs, .unseen, thead, noscript")).filter(e => {
			const r = e.getBoundingClientRect(), frame = e.ownerSVGElement ? e.ownerSVGElement.getBoundingClientRect() : {left: 0, right: 360};
			return r.width && (r.left < frame.left - 1 || r.right > frame.right + 1 || !e.ownerSVGElement && getComputedStyle(e).overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1);
		}).map(e => e.outerHTML.slice(0, 200)).concat(document.scrollingElement.scrollWidth > 360 ? ["the page"] : [])`))
		return len(cut) == 0
	}, "cut at 360 pixels: %v", &cut)
	b.look(1120, "light")
}
