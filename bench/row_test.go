package bench

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A sample is what one run of a contender took. What does not apply is zero.
type sample struct {
	took     time.Duration // of all the work,
	rate     float64       // or how much of it was done in a second
	cpu      time.Duration
	rss      int64          // bytes: the peak of the largest process
	requests map[string]int // to the store, by operation
	bytes    int64          // to the store and from it
}

// A contender does a row's work in one way.
type contender struct {
	name string
	run  func() sample
}

// A row is one piece of work.
type row struct {
	work       string
	reference  string // the contender that the others are compared with
	contenders []contender
	samples    map[string][]sample
	goals      map[string][]goal
}

// A goal is what a contender is to reach.
type goal struct {
	text    string
	reached bool
}

// Bounds that concern several rows.
const (
	notSlower     = 0.95 // as fast as another one, but for noise
	receiveMemory = 64 << 20
	restoreMemory = 32 << 20
)

// table collects the rows, for TestMain.
var table []*row

func newRow(work, reference string) *row {
	return &row{work: work, reference: reference, samples: map[string][]sample{}, goals: map[string][]goal{}}
}

func (r *row) add(name string, run func() sample) {
	r.contenders = append(r.contenders, contender{name, run})
}

// measure lets all contenders run in every round, each time with another one first,
// so that what the machine does besides falls on all of them.
func (r *row) measure(b *testing.B) {
	b.Helper()
	for round := 0; b.Loop(); round++ {
		for i := range r.contenders {
			c := r.contenders[(round+i)%len(r.contenders)]
			syscall.Sync() // nobody waits for what another one has written
			s := c.run()
			r.samples[c.name] = append(r.samples[c.name], s)
			b.Logf("%s: %s: %s", r.work, c.name, s)
		}
	}
	b.ReportMetric(0, "ns/op") // which would be of all contenders together
	for _, c := range r.contenders {
		value, unit := r.median(c.name), "s"
		if r.rates() {
			unit = "per-s"
		}
		b.ReportMetric(value, strings.ReplaceAll(c.name, " ", "-")+"-"+unit)
	}
	table = append(table, r)
}

// wants sets a goal, after the measuring.
func (r *row) wants(name, text string, reached bool) {
	r.goals[name] = append(r.goals[name], goal{text, reached})
}

func (r *row) wantsMemory(name string, most int64) {
	r.wants(name, fmt.Sprintf("%d MiB", most>>20), r.peak(name) <= most)
}

func (r *row) rates() bool {
	all := r.samples[r.contenders[0].name]
	return len(all) > 0 && all[0].rate > 0
}

func medianOf[T cmp.Ordered](all []sample, of func(sample) T) T {
	values := make([]T, 0, len(all))
	for _, s := range all {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// value is what is compared: seconds, or a rate.
func (s sample) value() float64 {
	if s.rate > 0 {
		return s.rate
	}
	return s.took.Seconds()
}

func (r *row) median(name string) float64 { return medianOf(r.samples[name], sample.value) }

// speed is how many times as fast as another contender one is.
func (r *row) speed(name, than string) float64 {
	if r.rates() {
		return r.median(name) / r.median(than)
	}
	return r.median(than) / r.median(name)
}

func (r *row) cpu(name string) time.Duration {
	return medianOf(r.samples[name], func(s sample) time.Duration { return s.cpu })
}

func (r *row) peak(name string) int64 {
	peak := int64(0)
	for _, s := range r.samples[name] {
		peak = max(peak, s.rss)
	}
	return peak
}

func (s sample) String() string {
	return fmt.Sprintf("%s, %.2f s of CPU, %.1f MiB, %d requests", number(s.value()), s.cpu.Seconds(), float64(s.rss)/(1<<20), s.total())
}

func (s sample) total() (n int) {
	for _, count := range s.requests {
		n += count
	}
	return n
}

// operations are the requests of the run that had the most of them.
func operations(all []sample) string {
	most := slices.MaxFunc(all, func(a, b sample) int { return a.total() - b.total() })
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(most.requests)) {
		texts = append(texts, fmt.Sprintf("%d %s", most.requests[name], strings.TrimSuffix(name, "Object")))
	}
	return strings.Join(texts, ", ")
}

// heads are the columns of the table.
var heads = []string{
	"work", "contender", "median", "from", "to", "times as fast", "CPU s", "peak MiB", "requests", "MiB moved", "goal", "reached",
}

// lines are those of the table for a row, one for each contender.
func (r *row) lines() (lines [][]string) {
	work := r.work
	for _, c := range r.contenders {
		all := r.samples[c.name]
		if len(all) == 0 {
			continue
		}
		slices.SortFunc(all, func(a, b sample) int { return cmp.Compare(a.value(), b.value()) })
		unit, faster := " s", ""
		if r.rates() {
			unit = "/s"
		}
		if _, ok := r.samples[r.reference]; ok {
			faster = fmt.Sprintf("%.2f", r.speed(c.name, r.reference))
		}
		line := []string{
			work, c.name, number(r.median(c.name)) + unit, number(all[0].value()), number(all[len(all)-1].value()), faster,
			r.processor(c.name), mebibytes(r.peak(c.name)),
			operations(all), mebibytes(medianOf(all, func(s sample) int64 { return s.bytes })),
		}
		lines = append(lines, append(line, r.verdict(c.name)...))
		work = ""
	}
	return lines
}

// verdict is what a contender is to reach, and whether it does.
func (r *row) verdict(name string) []string {
	var texts, reached []string
	for _, g := range r.goals[name] {
		texts = append(texts, g.text)
		reached = append(reached, map[bool]string{true: "yes", false: "no"}[g.reached])
	}
	return []string{strings.Join(texts, "; "), strings.Join(reached, "; ")}
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

// processor is the CPU column: empty where nothing was measured.
func (r *row) processor(name string) string {
	if r.cpu(name) == 0 && r.peak(name) == 0 {
		return ""
	}
	return number(r.cpu(name).Seconds())
}

func mebibytes(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", float64(n)/(1<<20))
}

// markdown is the table of all rows.
func markdown(rows []*row) string {
	lines := [][]string{heads}
	for _, r := range rows {
		lines = append(lines, r.lines()...)
	}
	width := make([]int, len(heads))
	for _, line := range lines {
		for i, cell := range line {
			width[i] = max(width[i], len(cell))
		}
	}
	var text strings.Builder
	for i, line := range lines {
		for j, cell := range line {
			fmt.Fprintf(&text, "| %-*s ", width[j], cell)
		}
		text.WriteString("|\n")
		if i == 0 {
			for j := range line {
				text.WriteString("| " + strings.Repeat("-", max(width[j], 3)) + " ")
			}
			text.WriteString("|\n")
		}
	}
	return text.String()
}

func TestRow(t *testing.T) {
	r := newRow("carry", "cart")
	for _, name := range []string{"cart", "lorry"} {
		r.add(name, nil)
	}
	second := func(n float64) sample {
		return sample{took: time.Duration(n * float64(time.Second)), cpu: time.Second, rss: 3 << 20}
	}
	r.samples["cart"] = []sample{second(6), second(2), second(7)}
	r.samples["lorry"] = []sample{second(4), second(1), second(3)}
	r.wants("lorry", "2 x cart", r.speed("lorry", "cart") >= 2)
	want := "carry|cart|6.00 s|2.00|7.00|1.00|1.00|3.0||||\n|lorry|3.00 s|1.00|4.00|2.00|1.00|3.0|||2 x cart|yes"
	var got []string
	for _, line := range r.lines() {
		got = append(got, strings.Join(line, "|"))
	}
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
