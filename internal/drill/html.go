package drill

import (
	"fmt"
	"html"
	"io"
	"strings"
	"unicode"
)

// HTML writes the report as one page, which needs nothing from anywhere else.
func (r *Report) HTML(w io.Writer) error {
	p := &page{}
	p.raw(pageHead)
	p.raw("<title>" + esc("Restore drill "+when(r.Started)) + "</title></head><body><main>")
	p.verdict(r)
	p.figures(r)
	p.failures(r)
	p.timeline(r)
	p.checks(r)
	p.facts(r)
	p.raw("</main></body></html>\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}

// page is a page that grows.
type page struct{ b strings.Builder }

// raw adds markup.
func (p *page) raw(markup string) { p.b.WriteString(markup) }

// esc makes text markup. Nothing from elsewhere gets onto the page without it.
func esc(text string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text))
}

func (p *page) verdict(r *Report) {
	class, word := "bad", "Not proven to be restorable"
	if r.Success {
		class, word = "good", "Restored"
	}
	p.raw(`<header class="` + class + `"><h1>` + word + "</h1><p>" + esc(fmt.Sprintf("Cluster %s, to %s", r.SystemID, r.Target.Text)) + "</p><p>" + esc(when(r.Started)) + "</p></header>")
}

// figures are the numbers that somebody looks for first.
func (p *page) figures(r *Report) {
	p.raw(`<section class="figures">`)
	figure := func(value, name, what string) {
		p.raw("<div><b>" + esc(value) + "</b><span>" + esc(name) + "</span><small>" + esc(what) + "</small></div>")
	}
	known := func(seconds float64) string {
		if seconds == 0 {
			return "–"
		}
		return duration(seconds)
	}
	figure(known(r.Times.Restore), "RTO", "until the server could be used")
	switch l := r.Loss; {
	case l != nil && l.Bytes != nil:
		figure(size(*l.Bytes), "RPO", "on the server, and not in the archive")
	case l != nil && l.CommitAge != nil:
		figure(duration(*l.CommitAge), "RPO, at most", "since the last commit in the archive")
	default:
		figure("–", "RPO", "not known")
	}
	figure(known(r.Times.Download), "download", "of the base backup")
	figure(known(r.Times.Target), "replay", "from the server's start to the target")
	passed, made := 0, 0
	for _, c := range r.Checks {
		if c.Result != Skipped {
			made++
		}
		if c.Result == Passed {
			passed++
		}
	}
	figure(fmt.Sprintf("%d of %d", passed, made), "checks", "passed")
	p.raw("</section>")
}

func (p *page) failures(r *Report) {
	if len(r.Failures) == 0 {
		return
	}
	p.raw("<section><h2>What was wrong</h2>")
	for _, f := range r.Failures {
		p.raw(`<article class="failure"><h3>` + esc(string(f.Kind)) + "</h3><p>" + lines(f.Message) + "</p>")
		if len(f.Log) > 0 {
			p.raw("<pre>" + esc(strings.Join(f.Log, "\n")) + "</pre>")
		}
		p.raw("</article>")
	}
	p.raw("</section>")
}

// lines is text of several lines.
func lines(text string) string { return strings.ReplaceAll(esc(text), "\n", "<br>") }

// The drawing of the timeline, in units of its own: it is scaled to the page.
const (
	drawWidth  = 960
	drawLabel  = 230 // left of the bars
	drawTime   = 90  // right of them
	drawRow    = 30
	drawBar    = 18
	drawLeast  = 2 // of a bar, so that it can be seen
	drawAxis   = 24
	drawTicks  = 5
	drawMargin = 6
)

// timeline draws the steps, one below the other, over the time of the drill.
func (p *page) timeline(r *Report) {
	if len(r.Steps) == 0 {
		return
	}
	total := r.Times.Total
	for _, s := range r.Steps {
		total = max(total, s.Start+s.Seconds)
	}
	if total <= 0 {
		return
	}
	height := len(r.Steps)*drawRow + drawAxis
	bars := float64(drawWidth - drawLabel - drawTime)
	x := func(seconds float64) float64 { return drawLabel + seconds/total*bars }
	p.raw(fmt.Sprintf(`<section><h2>Timeline</h2><div class="draw"><svg viewBox="0 0 %d %d" role="img" aria-label="the steps of the drill over time">`, drawWidth, height))
	for i := range drawTicks + 1 {
		at := total * float64(i) / drawTicks
		p.raw(fmt.Sprintf(`<line class="tick" x1="%.1f" x2="%.1f" y1="0" y2="%d"/><text class="axis" x="%.1f" y="%d">%s</text>`,
			x(at), x(at), height-drawAxis, x(at), height-drawMargin, esc(duration(at))))
	}
	for i, s := range r.Steps {
		top := i * drawRow
		middle := top + drawRow/2 + drawMargin - 1
		p.raw(fmt.Sprintf(`<text class="label" x="%d" y="%d">%s</text>`, drawLabel-drawMargin*2, middle, esc(s.Name)))
		p.raw(fmt.Sprintf(`<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="3"><title>%s</title></rect>`,
			x(s.Start), top+(drawRow-drawBar)/2, max(drawLeast, s.Seconds/total*bars), drawBar,
			esc(fmt.Sprintf("%s: from %s, %s", s.Name, duration(s.Start), duration(s.Seconds)))))
		p.raw(fmt.Sprintf(`<text class="time" x="%d" y="%d">%s</text>`, drawWidth-drawMargin, middle, esc(duration(s.Seconds))))
	}
	p.raw("</svg></div></section>")
}

func (p *page) checks(r *Report) {
	if len(r.Checks) == 0 {
		return
	}
	p.raw("<section><h2>Checks</h2><table><thead><tr><th>check</th><th>result</th><th>took</th></tr></thead><tbody>")
	for _, c := range r.Checks {
		p.raw("<tr><td>" + esc(c.Name))
		if c.SQL != "" {
			p.raw("<pre>" + esc(c.SQL) + "</pre>")
		}
		p.raw(`</td><td class="` + esc(c.Result) + `">` + esc(c.Result))
		if c.Message != "" {
			p.raw("<br><small>" + lines(c.Message) + "</small>")
		}
		p.raw("</td><td>" + esc(duration(c.Seconds)) + "</td></tr>")
	}
	p.raw("</tbody></table></section>")
}

func (p *page) facts(r *Report) {
	p.raw("<section><h2>Details</h2><table><tbody>")
	for _, row := range r.rows() {
		p.raw("<tr><th>" + esc(row.name) + "</th><td>" + esc(row.value) + "</td></tr>")
	}
	for _, note := range r.Notes {
		p.raw("<tr><th>note</th><td>" + esc(note) + "</td></tr>")
	}
	p.raw("</tbody></table></section>")
}

// pageHead is the beginning of every page. Colours follow what the reader's system
// is set to.
const pageHead = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
:root{color-scheme:light dark;--ink:#1b2430;--soft:#5b6775;--paper:#f5f6f8;--card:#fff;--line:#d9dee5;--bar:#2f6fb3;--good:#1d7a45;--bad:#b3261e;--code:#eef1f5}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa7b6;--paper:#12161c;--card:#1b222b;--line:#323c49;--bar:#5b9ee0;--good:#2f9a5e;--bad:#d0473f;--code:#10141a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.5rem}
header{border-radius:.6rem;padding:1rem 1.5rem;color:#fff}
header.good{background:var(--good)}header.bad{background:var(--bad)}
header h1{margin:0;font-size:1.6rem}header p{margin:.2rem 0 0;overflow-wrap:anywhere}
section,article.failure{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem 1.5rem;margin-top:1rem}
article.failure{border-left:.35rem solid var(--bad);margin-top:.6rem;padding:.6rem 1rem}
article.failure h3{margin:0;font:600 1rem ui-monospace,monospace}article.failure p{margin:.2rem 0;overflow-wrap:anywhere}
h2{margin:0 0 .5rem;font-size:1.1rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1rem}
.figures div{display:flex;flex-direction:column}.figures b{font-size:1.5rem;font-variant-numeric:tabular-nums}.figures span{font-weight:600}
small,.figures small{color:var(--soft)}
.draw{overflow-x:auto}svg{width:100%;min-width:38rem;height:auto;display:block}
svg rect{fill:var(--bar)}svg .tick{stroke:var(--line)}
svg text{fill:var(--ink);font:14px system-ui,sans-serif}svg .label,svg .time{text-anchor:end}svg .axis{text-anchor:middle;fill:var(--soft);font-size:12px}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;border-top:1px solid var(--line);overflow-wrap:anywhere}
thead th{border-top:0;color:var(--soft);font-weight:600}tbody th{white-space:nowrap;font-weight:600}
pre{margin:.2rem 0 0;padding:.5rem .7rem;background:var(--code);border-radius:.3rem;font:13px/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
td.passed{color:var(--good);font-weight:600}td.failed{color:var(--bad);font-weight:600}td small{font-weight:400}thead+tbody td:last-child{white-space:nowrap}
</style>
`
