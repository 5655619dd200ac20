package archive

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// chainWorld is what an archive holds, in short words. Segments are 1 MB.
type chainWorld struct {
	have    string // "1:1-5 1:9p": segments 1 to 5 of timeline 1, and a partial of 9
	forks   string // "2=1@3.5 3=1@3.5,2@7": history files; 3.5 is in the middle of segment 3
	damaged string // "2 3": timelines whose history file is there and cannot be read
	gaps    string // "1:6-8": accepted, with both ends in it
}

func (w chainWorld) chain(t *testing.T) *Chain {
	t.Helper()
	return w.look(t).Chain
}

func (w chainWorld) look(t *testing.T) Look {
	t.Helper()
	a := &Archive{id: testIdentity}
	var keys []string
	for word := range strings.FieldsSeq(w.have) {
		timeline, first, last, partial := parseRun(t, word)
		for n := first; n <= last; n++ {
			key := a.segmentKey(name(timeline, n))
			if partial {
				key = a.partialKey(Partial{Name: name(timeline, n), Digest: "00c0ffee"})
			}
			keys = append(keys, key)
		}
	}
	histories, damaged := map[segment.TimelineID]segment.History{}, map[segment.TimelineID]error{}
	for word := range strings.FieldsSeq(w.forks) {
		h := parseForks(t, word)
		histories[h.Timeline] = h
		keys = append(keys, a.historyKey(h.Timeline))
	}
	for word := range strings.FieldsSeq(w.damaged) {
		timeline := parseTimeline(t, word)
		damaged[timeline] = errDamagedHistory
		keys = append(keys, a.historyKey(timeline))
	}
	var gaps []segment.Gap
	for word := range strings.FieldsSeq(w.gaps) {
		timeline, first, last, _ := parseRun(t, word)
		gaps = append(gaps, segment.Gap{Timeline: timeline, From: testSize.Start(first), To: testSize.Start(last + 1)})
	}
	l := list(t, keys...)
	return Look{l, NewChain(l, histories, damaged, gaps)}
}

var errDamagedHistory = errors.New("damaged history")

func parseTimeline(t *testing.T, text string) segment.TimelineID {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return segment.TimelineID(n)
}

// parseRun reads "1:6-8", "1:6" or "1:9p".
func parseRun(t *testing.T, word string) (timeline segment.TimelineID, first, last uint64, partial bool) {
	t.Helper()
	left, run, _ := strings.Cut(word, ":")
	run, partial = strings.CutSuffix(run, "p")
	from, to, many := strings.Cut(run, "-")
	first, err := strconv.ParseUint(from, 10, 64)
	last = first
	if many && err == nil {
		last, err = strconv.ParseUint(to, 10, 64)
	}
	if err != nil {
		t.Fatal(err)
	}
	return parseTimeline(t, left), first, last, partial
}

// parseForks reads "3=1@3.5,2@7".
func parseForks(t *testing.T, word string) segment.History {
	t.Helper()
	left, right, _ := strings.Cut(word, "=")
	h := segment.History{Timeline: parseTimeline(t, left)}
	for part := range strings.SplitSeq(right, ",") {
		parent, at, _ := strings.Cut(part, "@")
		place, err := strconv.ParseFloat(at, 64)
		if err != nil {
			t.Fatal(err)
		}
		h.Entries = append(h.Entries, segment.HistoryEntry{
			Timeline: parseTimeline(t, parent),
			End:      segment.LSN(place * float64(testSize)),
		})
	}
	return h
}

func run(first, last uint64) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// describe lists the holes of all timelines, those of accepted gaps with a "g".
func describeHoles(c *Chain) string {
	var words []string
	for _, b := range c.Branches {
		for _, h := range b.Holes {
			word := fmt.Sprintf("%d:%s", h.Timeline, run(h.First, h.Last))
			if h.Gap != nil {
				word += "g"
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// describeWindow lists the WAL of the current window.
func describeWindow(c *Chain) string {
	var words []string
	if current := c.Current(); current != nil {
		w, _ := c.Window(current.Timeline)
		for _, s := range w.Spans {
			words = append(words, fmt.Sprintf("%d:%s", s.Timeline, run(s.First, s.Last)))
		}
	}
	return strings.Join(words, " ")
}

func TestChain(t *testing.T) {
	for what, c := range map[string]struct {
		world  chainWorld
		holes  string
		window string // of the newest timeline
	}{
		"empty":       {},
		"one run":     {chainWorld{have: "1:3-9"}, "", "1:3-9"},
		"one hole":    {chainWorld{have: "1:3-5 1:8-9"}, "1:6-7", "1:8-9"},
		"two holes":   {chainWorld{have: "1:3 1:5 1:8-9"}, "1:4 1:6-7", "1:8-9"},
		"partial":     {chainWorld{have: "1:3-5 1:6p"}, "", "1:3-5"},
		"before part": {chainWorld{have: "1:3-5 1:8p"}, "1:6-7", "1:3-5"},
		"only a part": {chainWorld{have: "1:8p"}, "", ""},

		"fork in a segment":          {chainWorld{have: "1:1-2 1:3p 2:3-5", forks: "2=1@3.5"}, "", "1:1-2 2:3-5"},
		"its segment is the child's": {chainWorld{have: "1:1-3 2:4-5", forks: "2=1@3.5"}, "2:3", "2:4-5"},
		"fork on a border":           {chainWorld{have: "1:1-2 2:3-5", forks: "2=1@3"}, "", "1:1-2 2:3-5"},
		"parent ends early":          {chainWorld{have: "1:1-2 2:4-5", forks: "2=1@4"}, "1:3", "2:4-5"},
		"parent goes on":             {chainWorld{have: "1:1-6 2:3-4", forks: "2=1@3.5"}, "", "1:1-2 2:3-4"},
		"hole in what was left":      {chainWorld{have: "1:1-4 1:6 2:3-4", forks: "2=1@3.5"}, "1:5", "1:1-2 2:3-4"},
		"two forks in a segment":     {chainWorld{have: "1:1-2 1:3p 2:3p 3:3-5", forks: "2=1@3.2 3=1@3.2,2@3.6"}, "", "1:1-2 3:3-5"},
		"two forks, one missing":     {chainWorld{have: "1:1-2 2:3p 3:4-5", forks: "2=1@3.2 3=1@3.2,2@3.6"}, "3:3", "3:4-5"},
		"left where it began":        {chainWorld{have: "1:1-2 3:3-5", forks: "2=1@3 3=1@3,2@3"}, "", "1:1-2 3:3-5"},
		"siblings":                   {chainWorld{have: "1:1-8 2:3-4 3:7-9", forks: "2=1@3.5 3=1@7.5"}, "", "1:1-6 3:7-9"},
		"siblings, parent short":     {chainWorld{have: "1:1-4 2:3-4 3:7-9", forks: "2=1@3.5 3=1@7.5"}, "1:5-6", "3:7-9"},
		"only its history":           {chainWorld{have: "1:1-4", forks: "2=1@3.5"}, "", "1:1-2"},
		"history of what is missing": {chainWorld{have: "1:1-4", forks: "2=1@7"}, "1:5-6", "1:1-4"},

		"archived from a child on":     {chainWorld{have: "2:5-6", forks: "2=1@3.5"}, "", "2:5-6"},
		"from its fork on":             {chainWorld{have: "2:3-6", forks: "2=1@3.5"}, "", "2:3-6"},
		"begun on an abandoned branch": {chainWorld{have: "1:4-6 2:5-6", forks: "2=1@3.5"}, "", "2:5-6"},
		"parent is not archived":       {chainWorld{have: "1:1-2 3:7-8", forks: "3=1@3.5,2@7"}, "2:3-6", "3:7-8"},
		"nor needed":                   {chainWorld{have: "3:7-8", forks: "3=1@3.5,2@7"}, "", "3:7-8"},
		"grandparent short":            {chainWorld{have: "1:1-2 2:5-6 3:7", forks: "2=1@4.5 3=1@4.5,2@7"}, "1:3 2:4", "2:5-6 3:7"},

		"no history":           {chainWorld{have: "1:1-4 2:3-5"}, "", "2:3-5"},
		"damaged":              {chainWorld{have: "1:1-4 2:3-5", damaged: "2"}, "", "2:3-5"},
		"a grandchild knows":   {chainWorld{have: "1:1-2 2:4-5 3:6-7", forks: "3=1@3.5,2@6"}, "2:3", "2:4-5 3:6-7"},
		"histories contradict": {chainWorld{have: "1:1-2 2:3-5 3:6-7", forks: "2=1@3.5 3=1@3.7,2@6"}, "", "3:6-7"},
		"WAL before its fork":  {chainWorld{have: "1:1-2 2:3-5", forks: "2=1@9.5"}, "", "2:3-5"},

		"accepted":                    {chainWorld{have: "1:1-2 1:6-7", gaps: "1:3-5"}, "1:3-5g", "1:6-7"},
		"accepted in part":            {chainWorld{have: "1:1-2 1:9", gaps: "1:4-6"}, "1:3 1:4-6g 1:7-8", "1:9"},
		"two accepted":                {chainWorld{have: "1:1-2 1:9", gaps: "1:3-4 1:5-8"}, "1:3-4g 1:5-8g", "1:9"},
		"closed":                      {chainWorld{have: "1:1-7", gaps: "1:3-5"}, "", "1:1-7"},
		"closed in part":              {chainWorld{have: "1:1-3 1:5-7", gaps: "1:3-5"}, "1:4g", "1:5-7"},
		"nothing behind it yet":       {chainWorld{have: "1:1-2", gaps: "1:3-5"}, "1:3-5g", "1:1-2"},
		"before all that is there":    {chainWorld{have: "1:8-9", gaps: "1:3-5"}, "", "1:8-9"},
		"over a fork":                 {chainWorld{have: "1:1-2 2:7-8", forks: "2=1@5.5", gaps: "2:3-6"}, "1:3-4g 2:5-6g", "2:7-8"},
		"not of the abandoned branch": {chainWorld{have: "1:1-5 1:7 2:8-9", forks: "2=1@5.5", gaps: "2:5-7"}, "1:6 2:5-7g", "2:8-9"},
		"of a sibling":                {chainWorld{have: "1:1-3 1:6 2:3-4 3:6-7", forks: "2=1@3.5 3=1@6.5", gaps: "2:4-5"}, "1:4-5 2:5g", "3:6-7"},
	} {
		chain := c.world.chain(t)
		if got := describeHoles(chain); got != c.holes {
			t.Errorf("%s: holes %q; want %q", what, got, c.holes)
		}
		if got := describeWindow(chain); got != c.window {
			t.Errorf("%s: window %q; want %q", what, got, c.window)
		}
	}
}

func TestChainBranches(t *testing.T) {
	c := chainWorld{have: "1:1-3 2:3-5 4:9 5:9-10", forks: "2=1@3.5 3=1@2 5=1@3.5,2@7", damaged: "6"}.chain(t)
	for _, want := range []struct {
		timeline, parent segment.TimelineID
		fork             float64
		problem          error
	}{
		{1, 0, 0, nil},
		{2, 1, 3.5, nil},
		{3, 1, 2, nil},
		{4, 0, 0, ErrNoHistory},
		{5, 2, 7, nil},
		{6, 0, 0, errDamagedHistory},
	} {
		b := c.Branch(want.timeline)
		if b == nil {
			t.Errorf("timeline %d is not there", want.timeline)
			continue
		}
		if b.Parent != want.parent || b.Fork != segment.LSN(want.fork*float64(testSize)) || !errors.Is(b.Problem, want.problem) {
			t.Errorf("timeline %d: parent %d, fork %s, problem %v; want %+v", b.Timeline, b.Parent, b.Fork, b.Problem, want)
		}
	}
	if len(c.Branches) != 6 || c.Current().Timeline != 6 {
		t.Errorf("%d timelines, the newest is %d", len(c.Branches), c.Current().Timeline)
	}
	if c.Branch(7) != nil || c.Line(7) != nil {
		t.Error("there is a timeline 7")
	}
	if c := (chainWorld{have: "3:7-8", forks: "3=1@3.5,2@7"}).chain(t); len(c.Branches) != 1 {
		t.Errorf("%d timelines, and of two of them nothing is there or needed", len(c.Branches)-1)
	}
	if none := (chainWorld{}).chain(t); none.Current() != nil {
		t.Errorf("an empty archive has the timeline %d", none.Current().Timeline)
	}
}

// TestChainProblems names what is wrong with histories that can be read.
func TestChainProblems(t *testing.T) {
	for forks, want := range map[string]string{
		"2=1@3.5 3=1@3.7,2@6":         "contradicts that of timeline 2",
		"2=1@3.5 3=2@6":               "contradicts that of timeline 2",
		"3=1@3.5,2@6 4=1@3.5,2@6,3@7": "",
		"2=1@3.5 3=1@3.5,2@9":         "began at 0/900000, but there is WAL of it from 0/600000",
	} {
		c := chainWorld{have: "1:1-3 2:3-6 3:6-9", forks: forks}.chain(t)
		problem := c.Branch(3).Problem
		if want == "" && problem != nil || want != "" && (problem == nil || !strings.Contains(problem.Error(), want)) {
			t.Errorf("%s: %v; want %q", forks, problem, want)
		}
		if want != "" && c.Branch(3).Parent != 0 {
			t.Errorf("%s: the parent is %d", forks, c.Branch(3).Parent)
		}
	}
	// Two grandchildren do not agree about a timeline that has no history itself.
	c := chainWorld{have: "3:6-9 4:8-9", forks: "3=1@3.5,2@6 4=1@3.2,2@8"}.chain(t)
	if c.Branch(3).Problem != nil || c.Branch(4).Problem == nil {
		t.Errorf("timeline 3: %v, timeline 4: %v", c.Branch(3).Problem, c.Branch(4).Problem)
	}
}

func TestChainWindow(t *testing.T) {
	c := chainWorld{have: "1:1-6 2:3-4", forks: "2=1@3.5"}.chain(t)
	w, ok := c.Window(2)
	if !ok || w.Start != 0x100000 || w.End != 0x500000 {
		t.Errorf("window %+v, %v", w, ok)
	}
	if w, ok := c.Window(1); !ok || w.End != 0x700000 {
		t.Errorf("window of timeline 1 %+v, %v", w, ok)
	}
	if _, ok := c.Window(3); ok {
		t.Error("a timeline that is not there has a window")
	}
}
