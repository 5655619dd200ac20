package drill

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/recovery"
)

// sample is a report with all that a report can have, with characters that mean
// something to a browser or a terminal.
func sample() *Report {
	began := time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)
	lost, age := int64(4096), 12.5
	return &Report{
		Archive: `s3://b/<p>&"x"`, SystemID: "7411122233344455566", Started: began, Finished: began.Add(125 * time.Second),
		Failures: []Failure{
			{CheckFalse, "select 1 < 0 -- <script>: the value is false", nil},
			{ServerFailed, "the server ended", []string{`FATAL: no "x" <here>`, "\x1b[31mred"}},
		},
		Backup: &Backup{ID: "20261122T070000Z", Major: 15, Started: began, Finished: began, StartLSN: 0x2000028, EndLSN: 0x2000100, PlainSize: 3 << 30, StoredSize: 500 << 20},
		Target: Target{Kind: "lsn", Text: "LSN 0/3000000", Action: "promote", Timeline: 2, Random: true},
		Result: &Result{LSN: 0x3000028, Time: began.Add(-time.Minute), Timeline: 2, NewTimeline: 3, Reason: `recovery stopping after WAL location (LSN) "0/3000000"`},
		Times:  Times{Download: 60, Consistency: 2, Target: 20, Restore: 84, Total: 125},
		Loss:   &Loss{ArchivedLSN: 0x4000000, Timeline: 2, LastCommit: began.Add(-12500 * time.Millisecond), CommitAge: &age, ServerLSN: 0x4001000, Bytes: &lost},
		Checks: []Check{
			{Name: checkTarget, Result: Passed},
			{Name: checkSQL, SQL: "select 1 < 0 -- <script>", Result: Failed, Message: "the value is false"},
			{Name: checkAmcheck, Result: Skipped, Message: "pg_amcheck is not installed\nhere"},
		},
		Steps:  []Step{{"choose", 0, 1}, {"download", 1, 60}, {"recovery until consistent", 62, 2}, {"replay to the target", 64, 18}, {"checks", 84, 40}, {"remove", 124, 1}},
		Server: &Server{BinDir: "/usr/lib/postgresql/15/bin", User: "postgres"},
		Notes:  []string{"a note with <b>"},
	}
}

// elements parses the page as XML, which browsers do not need and which shows what
// was not closed or escaped, and counts its elements. Text is all text in it.
func elements(t *testing.T, page string) (count map[string]int, text string) {
	t.Helper()
	_, body, found := strings.Cut(page, "<body>")
	if !found {
		t.Fatal("no body")
	}
	body, _, _ = strings.Cut(body, "</body>")
	body = strings.ReplaceAll(body, "<br>", "<br/>")
	count = map[string]int{}
	d := xml.NewDecoder(strings.NewReader("<body>" + body + "</body>"))
	d.Entity = xml.HTMLEntity
	for {
		token, err := d.Token()
		if err == io.EOF {
			return count, text
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, body)
		}
		switch token := token.(type) {
		case xml.StartElement:
			count[token.Name.Local]++
		case xml.CharData:
			text += string(token) + "\n"
		}
	}
}

func TestHTML(t *testing.T) {
	r := sample()
	var b strings.Builder
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	count, text := elements(t, page)
	if count["rect"] != len(r.Steps) || count["article"] != len(r.Failures) || count["svg"] != 1 || count["script"]+count["img"]+count["link"] != 0 || count["b"] != 5 {
		t.Errorf("elements: %v", count)
	}
	for _, want := range []string{
		"Not proven to be restorable", "check_false", "select 1 < 0 -- <script>", `FATAL: no "x" <here>`, `s3://b/<p>&"x"`, "84 s", "4.0 kB",
		"1 of 2", "chosen by chance", "recovery until consistent", "a note with <b>", "500 MB",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, foreign := range []string{"http:", "https:", "url(", "@import", "src="} {
		if strings.Contains(strings.ReplaceAll(page, "default-src=", ""), foreign) {
			t.Errorf("the page needs something from elsewhere: %s", foreign)
		}
	}
	r.Success, r.Failures, r.Steps, r.Checks, r.Result, r.Loss, r.Backup = true, nil, nil, nil, nil, nil, nil
	b.Reset()
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	if count, text := elements(t, b.String()); count["svg"] != 0 || count["article"] != 0 || !strings.Contains(text, "Restored") {
		t.Errorf("elements of a report with little: %v", count)
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := sample().Text(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{
		"not proven to be restorable: cluster 7411122233344455566, LSN 0/3000000\n",
		"  server_failed: the server ended\n    | FATAL: no \"x\" <here>\n    | ?[31mred\n",
		"RTO          84 s from the beginning until the server could be used\n",
		"RPO          4.0 kB: the server was at 0/4001000\n",
		"check        failed: sql select 1 < 0 -- <script>: the value is false\n",
		"whole drill  125 s\n",
		"last commit  2026-11-22 07:29:47 UTC, 12 s before the drill\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.ContainsRune(text, '\x1b') {
		t.Error("a terminal would follow what the server said")
	}
}

func TestKept(t *testing.T) {
	r := sample()
	r.Failures = append(r.Failures, Failure{CheckFalse, "another", nil})
	k := r.kept()
	if got := strings.Join(k.Failures, " "); got != "check_false server_failed" {
		t.Errorf("failures: %s", got)
	}
	want := archive.DrillResult{
		Started: r.Started, Finished: r.Finished, Failures: k.Failures, Major: 15, Backup: "20261122T070000Z", Target: "lsn", Timeline: 2,
		ReachedLSN: 0x3000028, ReachedTime: r.Result.Time, DownloadSeconds: 60, ConsistencySeconds: 2, TargetSeconds: 20, RestoreSeconds: 84,
		TotalSeconds: 125, ArchivedLSN: 0x4000000, ArchivedCommit: r.Loss.LastCommit, ServerLSN: 0x4001000, LostBytes: r.Loss.Bytes,
		Checks: 2, FailedChecks: 1,
	}
	k.Failures, want.Failures = nil, nil
	if k.ID != "" || k.LostBytes != want.LostBytes || k.Checks != want.Checks || k.FailedChecks != want.FailedChecks || k.ReachedLSN != want.ReachedLSN || k.Major != want.Major || k.RestoreSeconds != want.RestoreSeconds || k.ArchivedCommit != want.ArchivedCommit {
		t.Errorf("%+v\nwant\n%+v", k, want)
	}
}

// What says nothing of the archive is not kept there: it would count as a proof
// against it.
func TestTells(t *testing.T) {
	for name, tt := range map[string]struct {
		r    Report
		want bool
	}{
		"success":               {Report{Success: true}, true},
		"archive":               {Report{Failures: []Failure{{Kind: Damaged}}}, true},
		"end not reached":       {Report{Failures: []Failure{{Kind: Unreachable}}}, true},
		"target not reached":    {Report{Failures: []Failure{{Kind: Unreachable}}, moot: true}, false},
		"interrupted":           {Report{Failures: []Failure{{Kind: CheckFalse}, {Kind: Interrupted}}}, false},
		"disk":                  {Report{Failures: []Failure{{Kind: ScratchFull}}}, false},
		"tmp cleaner":           {Report{Failures: []Failure{{Kind: ScratchGone}}}, false},
		"no SQL":                {Report{Failures: []Failure{{Kind: CheckInvalid}, {Kind: LeftBehind}}}, false},
		"no SQL, and not sound": {Report{Failures: []Failure{{Kind: CheckInvalid}, {Kind: Amcheck}}}, true},
	} {
		if got := tt.r.Tells(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for target, want := range map[recovery.Target]bool{
		{}: false, {Kind: recovery.Immediate}: false, {Kind: recovery.LSN, LSN: 1}: true, {Timeline: 2}: true,
	} {
		if got := (Options{Target: target}).choosy(); got != want {
			t.Errorf("%+v: %v", target, got)
		}
	}
	if (Options{Random: true, Target: recovery.Target{Kind: recovery.LSN, LSN: 1}}).choosy() {
		t.Error("nobody chose that")
	}
}

func TestFigures(t *testing.T) {
	for d, want := range map[time.Duration]string{1586 * time.Millisecond: "1.586", 3130999999: "3.131", 0: "0", 86400 * time.Second: "86400"} {
		if got, err := json.Marshal(seconds(d)); err != nil || string(got) != want {
			t.Errorf("%v: %s, %v", d, got, err)
		}
	}
	if got := count(2, "row") + " of " + count(1, "column"); got != "2 rows of 1 column" {
		t.Error(got)
	}
	for seconds, want := range map[float64]string{0: "0.00 s", 0.004: "0.00 s", 9.994: "9.99 s", 12.4: "12 s", 599: "599 s", 600: "0:10:00 h", 3723: "1:02:03 h"} {
		if got := duration(seconds); got != want {
			t.Errorf("%v seconds: %q", seconds, got)
		}
	}
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 kB", 15 << 20: "15 MB", 3 << 30: "3.0 GB", 5 << 50: "5120 TB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
