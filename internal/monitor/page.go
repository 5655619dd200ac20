package monitor

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What a metric can be.
const (
	gauge     = "gauge"
	counter   = "counter"
	histogram = "histogram"
)

// metric is what /metrics says of a metric besides its values.
type metric struct {
	name, kind, help string
	labels           []string // in alphabetical order
}

// page is an answer to /metrics, in the text format of Prometheus. That is a few
// lines of code; the library for it costs every start of this program, and so every
// segment that is restored, more than a millisecond.
type page struct{ lines []line }

// line is one value, and what it is one of.
type line struct {
	of   *metric
	text string
}

// add puts a value on the page.
func (p *page) add(m *metric, value float64, labels ...string) {
	p.value(m, "", pairs(m.labels, labels), value)
}

func (p *page) value(m *metric, suffix, labels string, value float64) {
	p.lines = append(p.lines, line{m, m.name + suffix + labels + " " + number(value)})
}

// pairs are labels as they stand behind a name.
func pairs(names, values []string) string {
	if len(names) == 0 {
		return ""
	}
	text := make([]string, len(names))
	for i, name := range names {
		text[i] = name + `="` + escapes.Replace(values[i]) + `"`
	}
	return "{" + strings.Join(text, ",") + "}"
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func number(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }

// text is the page: metrics by name, each with its head.
func (p *page) text() []byte {
	slices.SortStableFunc(p.lines, func(a, b line) int { return strings.Compare(a.of.name, b.of.name) })
	var text []byte
	var last *metric
	for _, l := range p.lines {
		if l.of != last {
			text = fmt.Appendf(text, "# HELP %s %s\n# TYPE %s %s\n", l.of.name, l.of.help, l.of.name, l.of.kind)
			last = l.of
		}
		text = append(append(text, l.text...), '\n')
	}
	return text
}

// metrics answers /metrics.
func (m *Monitor) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(m.page().text()) // to whoever is still there
}

// counts is a counter with two labels.
type counts struct {
	metric *metric
	mu     sync.Mutex
	count  map[[2]string]uint64
}

func (c *counts) add(first, second string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = map[[2]string]uint64{}
	}
	c.count[[2]string{first, second}]++
}

func (c *counts) collect(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all [][2]string
	for labels := range c.count {
		all = append(all, labels)
	}
	slices.SortFunc(all, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, labels := range all {
		p.add(c.metric, float64(c.count[labels]), labels[:]...)
	}
}

// times is a histogram of how long something took.
type times struct {
	metric *metric
	bounds []float64 // of the buckets, in seconds; there is one more above them
	mu     sync.Mutex
	count  []uint64 // one for each bucket
	sum    float64
}

func newTimes(m *metric, bounds []float64) *times {
	return &times{metric: m, bounds: bounds, count: make([]uint64, len(bounds)+1)}
}

func (t *times) add(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, _ := slices.BinarySearch(t.bounds, took.Seconds()) // a bound belongs to its bucket
	t.count[i]++
	t.sum += took.Seconds()
}

func (t *times) collect(p *page) {
	t.mu.Lock()
	defer t.mu.Unlock()
	total := 0.0 // a bucket counts those below it, too
	for i, n := range t.count {
		bound := "+Inf"
		if i < len(t.bounds) {
			bound = number(t.bounds[i])
		}
		total += float64(n)
		p.value(t.metric, "_bucket", pairs([]string{"le"}, []string{bound}), total)
	}
	p.value(t.metric, "_sum", "", t.sum)
	p.value(t.metric, "_count", "", total)
}
