package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// settle looks at an archive that changes from look to look.
func settle(t *testing.T, worlds ...chainWorld) (last Look, looks int) {
	t.Helper()
	pauses := 0
	last, err := Settle(t.Context(), func(context.Context) (Look, error) {
		if looks > pauses {
			t.Error("no pause before a look")
		}
		looks++
		return worlds[min(looks, len(worlds))-1].look(t), nil
	}, func(context.Context) error { pauses++; return nil })
	if err != nil || pauses != looks-1 {
		t.Fatalf("%d pauses, %d looks: %v", pauses, looks, err)
	}
	return last, looks
}

func TestSettle(t *testing.T) {
	for what, c := range map[string]struct {
		worlds    []chainWorld
		looks     int
		holes     []string // "1:3-4", with a "~" if they can be on their way
		histories []string // that are missing
	}{
		"complete":                 {[]chainWorld{{have: "1:1-5"}}, 1, nil, nil},
		"accepted":                 {[]chainWorld{{have: "1:1-2 1:5-6", gaps: "1:3-4"}}, 1, []string{"1:3-4"}, nil},
		"one came late":            {[]chainWorld{{have: "1:1-2 1:4"}, {have: "1:1-4"}}, 2, nil, nil},
		"lost":                     {[]chainWorld{{have: "1:1-2 1:4"}}, 2, []string{"1:3-3"}, nil},
		"another is on its way":    {[]chainWorld{{have: "1:1-2 1:4"}, {have: "1:1-4 1:6"}, {have: "1:1-6"}}, 3, nil, nil},
		"always one on its way":    {[]chainWorld{{have: "1:1-2 1:4"}, {have: "1:1-4 1:6"}, {have: "1:1-6 1:8"}}, 3, []string{"~1:7-7"}, nil},
		"lost far from the end":    {[]chainWorld{{have: "1:1-2 1:4-99"}, {have: "1:1-2 1:4-100"}, {have: "1:1-2 1:4-101"}}, 3, []string{"1:3-3"}, nil},
		"a great many":             {[]chainWorld{{have: "1:1-2 1:200"}, {have: "1:1-2 1:200-201"}}, 3, []string{"1:3-199"}, nil},
		"faster than it is listed": {[]chainWorld{{have: "1:1-2 1:4"}, {have: "1:1-900 1:902"}, {have: "1:1-1800 1:1802"}}, 3, []string{"~1:1801-1801"}, nil},
		"the end stands still":     {[]chainWorld{{have: "1:1-2 1:4"}, {have: "1:1-2 1:4-5"}, {have: "1:1-2 1:4-5"}}, 3, []string{"1:3-3"}, nil},
		"another branch moves": {
			[]chainWorld{{have: "1:1-2 1:4-9 2:5", forks: "2=1@5.5"}, {have: "1:1-2 1:4-10 2:5", forks: "2=1@5.5"}, {have: "1:1-2 1:4-10 2:5-6", forks: "2=1@5.5"}},
			3,
			[]string{"~1:3-3"},
			nil,
		},
		"a parent's last":         {[]chainWorld{{have: "1:1-3 2:5", forks: "2=1@5.5"}, {have: "1:1-3 2:5-6", forks: "2=1@5.5"}, {have: "1:1-3 2:5-7", forks: "2=1@5.5"}}, 3, []string{"~1:4-4"}, nil},
		"a history came late":     {[]chainWorld{{have: "1:1-5 2:5"}, {have: "1:1-5 2:5", forks: "2=1@5.5"}}, 2, nil, nil},
		"a history is lost":       {[]chainWorld{{have: "1:1-5 2:5"}}, 2, nil, []string{"2"}},
		"a history can be coming": {[]chainWorld{{have: "1:1-5 2:5"}, {have: "1:1-5 2:5-6"}, {have: "1:1-5 2:5-7"}}, 3, nil, []string{"~2"}},
		"a history of long ago":   {[]chainWorld{{have: "1:1-5 2:5-100"}, {have: "1:1-5 2:5-101"}, {have: "1:1-5 2:5-102"}}, 3, nil, []string{"2"}},
	} {
		last, looks := settle(t, c.worlds...)
		var holes, histories []string
		for _, b := range last.Chain.Branches {
			for _, h := range b.Holes {
				holes = append(holes, onItsWay(h.Arriving)+fmt.Sprintf("%d:%d-%d", uint32(h.Timeline), h.First, h.Last))
			}
			if b.Problem != nil {
				histories = append(histories, onItsWay(b.Arriving)+fmt.Sprint(uint32(b.Timeline)))
			}
		}
		if looks != c.looks || !slices.Equal(holes, c.holes) || !slices.Equal(histories, c.histories) {
			t.Errorf("%s: %d looks, holes %q, histories %q", what, looks, holes, histories)
		}
	}
}

func onItsWay(arriving bool) string {
	if arriving {
		return "~"
	}
	return ""
}

// TestSettleFails: an archive that cannot be looked at again is not judged by the
// first look.
func TestSettleFails(t *testing.T) {
	bad, holey := errors.New("no"), chainWorld{have: "1:1 1:3"}.look(t)
	for _, c := range []struct{ look, pause error }{{look: bad}, {pause: bad}} {
		looks := 0
		_, err := Settle(t.Context(), func(context.Context) (Look, error) {
			if looks++; looks > 1 {
				return Look{}, c.look
			}
			return holey, nil
		}, func(context.Context) error { return c.pause })
		if !errors.Is(err, bad) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(bad)
	if err := Pause(ctx); !errors.Is(err, bad) {
		t.Errorf("a pause that is over: %v", err)
	}
}

// TestClears: a mark is history only if its place was read, and is sound.
func TestClears(t *testing.T) {
	n := name(1, 7)
	start, end := n.Start(testSize), n.End(testSize)
	mark := segment.Mark{Name: n, LSN: start + 500}
	sound := segment.Summary{Start: start, End: end}
	faulty, dark, short, open := sound, sound, sound, sound
	faulty.Faults, dark.Unchecked, short.End, open.Open = 1, 8, start+500, start+500
	after := sound
	after.Open = start + 508
	for what, c := range map[string]struct {
		info SegmentInfo
		want bool
	}{
		"sound":              {SegmentInfo{Name: n, Summary: sound, Known: true}, true},
		"not known":          {SegmentInfo{Name: n, Summary: sound}, false},
		"another":            {SegmentInfo{Name: name(2, 7), Summary: sound, Known: true}, false},
		"faulty":             {SegmentInfo{Name: n, Summary: faulty, Known: true}, false},
		"not all checked":    {SegmentInfo{Name: n, Summary: dark, Known: true}, false},
		"not read so far":    {SegmentInfo{Name: n, Summary: short, Known: true}, false},
		"its record is open": {SegmentInfo{Name: n, Summary: open, Known: true}, false},
		"a later one is":     {SegmentInfo{Name: n, Summary: after, Known: true}, true},
	} {
		if got := c.info.Clears(mark); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
