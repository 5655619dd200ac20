package archive

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// knownSummaries knows some segments, and waits for ever for another one.
type knownSummaries struct {
	known map[segment.Name]segment.Summary
	slow  segment.Name
}

func (k knownSummaries) Summary(ctx context.Context, n segment.Name) (segment.Summary, bool) {
	if n == k.slow {
		<-ctx.Done()
	}
	s, ok := k.known[n]
	return s, ok
}

// What is known of a segment is archived with it. What is not known, or not in
// time, is found out by reading.
func TestSummariesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealed(name(1, 1), name(1, 2), name(1, 3))
		known := segment.Summary{Start: testSize.Start(1), End: testSize.Start(2), First: testSize.Start(1) + 40, Last: testSize.Start(1) + 80}
		o := UploaderOptions{Summaries: knownSummaries{map[segment.Name]segment.Summary{name(1, 1): known}, name(1, 2)}}
		if err := NewUploader(r.archive, r.spool(r.disk), o, slog.New(r.log)).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		for number := range uint64(3) {
			info, err := r.archive.SegmentInfo(t.Context(), name(1, number+1))
			if err != nil || !info.Known {
				t.Fatalf("%+v, %v", info, err)
			}
			if foreign := reflect.DeepEqual(info.Summary, known); foreign != (number == 0) || !foreign && info.Summary.Faults == 0 {
				t.Errorf("%+v", info)
			}
		}
	})
}

func TestOnUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.twoTimelines()
		r.findings()
		var mu sync.Mutex
		told := map[string]int{}
		store := storagetest.NewFaulty(r.mem, storagetest.FailAt(1, storagetest.Fault{Before: storagetest.ErrInjected}))
		a := &Archive{store: store, id: testIdentity}
		u := NewUploader(a, r.spool(r.disk), UploaderOptions{Workers: 1, OnUpload: func(kind string, took time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				kind += " error"
			}
			told[kind]++
		}}, slog.New(r.log))
		if err := u.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := map[string]int{"gap error": 1, "gap": 1, "mark": 1, "segment": 4, "partial": 1, "history": 1}
		if !reflect.DeepEqual(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

func TestOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		store := &gate{Mem: r.mem, open: map[string]chan struct{}{}}
		u := r.uploader(r.disk, store, 4)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- u.Run(ctx) }()
		began := time.Now()
		expect := func(when string, age time.Duration, ok bool) {
			t.Helper()
			synctest.Wait()
			at, got := u.Oldest()
			if got != ok || ok && at.Sub(began) != age {
				t.Errorf("%s: %v, %v", when, at.Sub(began), got)
			}
		}
		expect("empty", 0, false)
		for number := range uint64(2) {
			r.sealed(name(1, number+1))
			u.Nudge()
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		expect("both", 0, true)
		close(store.door(name(1, 1).Format(testSize) + ".zst"))
		expect("the second", time.Minute, true)
		u.Nudge()
		expect("the second after another look", time.Minute, true)
		close(store.door(name(1, 2).Format(testSize) + ".zst"))
		expect("none", 0, false)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Files that are no gap and no mark hold nothing up.
func TestFindingsThatMakeNoSense(t *testing.T) {
	r := newRig(t)
	r.sealed(name(1, 1))
	r.findings()
	bad := []string{
		"00000001.0000000000300000-0000000000400000.gap", "000000010000000000000003.0000000000300028.mark",
		"00000000.0000000000300000-0000000000400000.gap",
	}
	for _, base := range bad {
		r.file(base, r.files[testGap.FileName()])
	}
	if err := r.uploader(r.disk, r.mem, 4).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expectArchived("at the end")
	lines := r.log.lines()
	slices.Sort(lines)
	if len(lines) != 2 || !strings.Contains(lines[0], bad[0]) || !strings.Contains(lines[1], bad[1]) {
		t.Errorf("logged %q", lines)
	}
}

// What another archiver recorded under the same name says the same.
func TestFindingsAreArchivedOnce(t *testing.T) {
	r := newRig(t)
	r.findings()
	gap, mark := testGap, testMark
	gap.Reason, mark.Reason = "found before", "found before"
	for kind, file := range map[Kind]string{KindGap: gap.FileName(), KindMark: mark.FileName(testSize)} {
		content, err := gap.Encode()
		if kind == KindMark {
			content, err = mark.Encode(testSize)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := r.archive.putFinding(t.Context(), kind, file, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.uploader(r.disk, r.mem, 4).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	gaps, err := r.archive.Gaps(t.Context())
	if err != nil || !slices.Equal(gaps, []segment.Gap{gap}) || len(r.log.lines()) > 0 {
		t.Errorf("%v, %v, %q", gaps, err, r.log.lines())
	}
}
