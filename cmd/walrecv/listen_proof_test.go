package main

import (
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/monitor"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage/local"
)

func TestProofOf(t *testing.T) {
	dir := emptyArchive(t, 7400000000000000001)
	a, err := archive.Open(t.Context(), local.New(vfs.OS(), dir, local.Private), 7400000000000000001, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want monitor.Proof) {
		t.Helper()
		got, err := proofOf(t.Context(), a, time.Now())
		if err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	expect(monitor.Proof{})
	putBackup(t, dir, "1", "start.json", `{"format":1,"id":"1","timeline":1,"start_lsn":"0/2000028","started":"2026-11-22T07:30:00Z"}`)
	expect(monitor.Proof{})
	for id, ended := range map[string]string{"2": "2026-11-22T07:31:00Z", "3": "2026-11-21T07:31:00Z", "damaged": "2026-11-23T07:31:00Z"} {
		putBackup(t, dir, id, "backup.json", `{"format":1,"id":"`+id+`","timeline":1,"start_lsn":"0/2000028","end_lsn":"0/2000128","end_timeline":1,
			"started":"2026-11-20T07:30:00Z","finished":"`+ended+`","tablespaces":[{"oid":0}],
			"objects":[{"file":"base.000001.tar.zst"},{"file":"backup_manifest.zst"}]}`)
		putBackup(t, dir, id, "base.000001.tar.zst", "")
		if id != "damaged" {
			putBackup(t, dir, id, "backup_manifest.zst", "")
		}
	}
	want := monitor.Proof{LastBackup: time.Date(2026, 11, 22, 7, 31, 0, 0, time.UTC)}
	expect(want)
	want.LastDrill, want.DrillSuccess = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC), true
	if _, err := a.PutDrill(t.Context(), archive.DrillResult{Started: want.LastDrill.Add(-time.Minute), Finished: want.LastDrill, Success: true}); err != nil {
		t.Fatal(err)
	}
	expect(want)
}
