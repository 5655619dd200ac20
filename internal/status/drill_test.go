package status_test

import (
	"strings"
	"testing"
)

const drillStart = `{"format":1,"id":"20261122T073000Z","started":"2026-11-22T07:30:00Z","finished":"2026-11-22T07:31:00Z",`

// The newest drill is the one that counts; one that failed is a problem.
func TestLastDrill(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 2, 8)
	if r := w.report(); r.LastDrill != nil || strings.Contains(text(t, r), "drill") {
		t.Errorf("none: %+v", r.LastDrill)
	}
	w.set("drills/20261121T073000Z.json", []byte(`x`))
	w.set("drills/20261122T073000Z.json", []byte(drillStart+`"success":true,"failures":[],"backup":"b","target":"latest","restore_seconds":12.34,"reached_lsn":"0/800000","total_seconds":60,"checks":1,"failed_checks":0}`))
	r := w.report()
	if r.LastDrill == nil || !r.LastDrill.Success || len(r.Problems) != 0 {
		t.Fatalf("%+v, problems %v", r.LastDrill, r.Problems)
	}
	if got := text(t, r); !strings.Contains(got, "last drill   2026-11-22 07:30:00 UTC, restored b up to 0/800000 in 12.3s") {
		t.Error(got)
	}
	w.set("drills/20261122T073000Z.json", []byte(drillStart+`"success":false,"failures":["check","target"],"backup":"b","target":"latest","total_seconds":60,"checks":1,"failed_checks":1}`))
	r = w.report()
	if got := text(t, r); len(r.Problems) != 1 || !strings.Contains(got, "2026-11-22 07:30:00 UTC, failed: check, target") {
		t.Errorf("problems %v\n%s", r.Problems, got)
	}
	for failures, want := range map[string]string{
		`"server_failed"`:                "The archive may not restore.",
		`"no_backup"`:                    "walrecv backup create",
		`"check_error"`:                  "correct the check",
		`"check_error","object_damaged"`: "The archive may not restore.",
	} {
		w.set("drills/20261122T073000Z.json", []byte(drillStart+`"success":false,"failures":[`+failures+`],"target":"latest","total_seconds":60,"checks":0,"failed_checks":0}`))
		if r = w.report(); len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Do, want) {
			t.Errorf("%s: %+v", failures, r.Problems)
		}
	}
	w.set("drills/20261122T073000Z.json", []byte(`{"format":2}`))
	if r = w.report(); r.LastDrill != nil || len(r.Problems) != 1 {
		t.Errorf("%+v, problems %v", r.LastDrill, r.Problems)
	}
}
