package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/storage"
)

func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		after       time.Duration
		want        string
	}{
		{0, 0, time.Second, "listing the archive"},
		{0, 4 << 30, 0, "[..............................]   0%  0 B of 4.0 GB"},
		{1 << 30, 4 << 30, 2 * time.Second, "[#######.......................]  25%  1.0 GB of 4.0 GB  512 MB/s  6s left"},
		{4 << 30, 4 << 30, 8 * time.Second, "[##############################] 100%  4.0 GB of 4.0 GB  512 MB/s  0s left"},
	} {
		if got := progressLine(c.done, c.total, c.after); got != c.want {
			t.Errorf("%d of %d: %q; want %q", c.done, c.total, got, c.want)
		}
	}
	var w bytes.Buffer
	interrupted := make(chan os.Signal, 1)
	interrupted <- os.Interrupt
	if by := drawProgress(&w, nil, nil, interrupted, nil); by != os.Interrupt || w.String() != "\n" {
		t.Errorf("interrupted by %v: %q", by, w.String())
	}
	w.Reset()
	showProgress(&w, func() (int64, int64) { return 1, 2 })()
	if w.Len() > 0 {
		t.Errorf("not on a terminal: %q", w.String())
	}
}

// TestVerifyReport: what is printed, and the exit code, for everything that a
// report can say.
func TestVerifyReport(t *testing.T) {
	finding := verify.Finding{
		Kind: verify.KindHole, Object: "1/wal/00000001/000000010000000000000005.zst", Timeline: 1, LSN: 0x5000000, End: 0x6000000,
		Message: "1 segment is\nmissing", Advice: "look for it",
	}
	for _, c := range []struct {
		report verify.Report
		code   int
		want   string
	}{
		{verify.Report{Segments: 1, Bytes: 16 << 20, Timelines: []verify.Timeline{{ID: 1}, {ID: 2, Read: true}}}, 0, "sound: 1 segment, 16 MB on 1 timeline, in 1.5s\n"},
		{
			verify.Report{Deep: true, Segments: 2, Partials: 3, Records: 7, Unchecked: 3 << 10, Since: 0x10, Notices: []verify.Finding{{Kind: verify.KindForeign, Message: "what is \x1b[31mit"}}},
			0, "notice: what is \\x1b[31mit\nsound: 2 segments, 3 partials, 0 B on 0 timelines, 7 records, 3.0 kB of records not checked, since 0/10, in 1.5s\n",
		},
		{
			verify.Report{Findings: []verify.Finding{finding}},
			3, "not sound: 1/wal/00000001/000000010000000000000005.zst (0/5000000): 1 segment is; missing; look for it\n" +
				"not sound (1 finding): 0 segments, 0 B on 0 timelines, in 1.5s\n",
		},
		{
			verify.Report{Unread: []verify.Finding{{Object: "1/x", Message: "no answer"}}},
			1, "not checked: 1/x: no answer\nnot all could be checked: 0 segments, 0 B on 0 timelines, in 1.5s\n",
		},
		{
			verify.Report{Findings: []verify.Finding{finding}, Unread: []verify.Finding{{LSN: 16, Message: "no answer"}}},
			3, "not checked: 0/10: no answer\nnot sound: 1/wal/00000001/000000010000000000000005.zst (0/5000000): 1 segment is; missing; look for it\n" +
				"not sound (1 finding), and not all could be checked: 0 segments, 0 B on 0 timelines, in 1.5s\n",
		},
	} {
		var text, doc bytes.Buffer
		if err := writeVerifyText(&text, &c.report, 1500*time.Millisecond); err != nil || text.String() != c.want {
			t.Errorf("%v\n got %q\nwant %q", err, text.String(), c.want)
		}
		if err := verdict(&c.report); exitCode(err) != c.code || err != nil && err.Error() != "" {
			t.Errorf("%q: exit %d, %v", c.want, exitCode(err), err)
		}
		if err := writeVerifyJSON(&doc, storage.Location{Path: "/a"}, &c.report, time.Second); err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(doc.Bytes(), &got); err != nil || strings.Contains(doc.String(), "null") || got["sound"] != (c.code != 3) {
			t.Errorf("%v: %s", err, doc.String())
		}
	}
}
