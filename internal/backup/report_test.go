package backup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestReport(t *testing.T) {
	mem := storagetest.NewMem()
	a := newArchive(t, mem)
	var out strings.Builder
	report := func(pause func(context.Context) error) *Report {
		t.Helper()
		out.Reset()
		r := must[*Report](t)(Gather(t.Context(), a, "/srv/wal", day.Add(24*time.Hour), pause))
		if err := r.Text(&out); err != nil {
			t.Fatal(err)
		}
		return r
	}
	none := func(context.Context) error { return errors.New("nothing is missing, and a pause was made") }
	report(none)
	if want := "There is no base backup in the archive.\n"; out.String() != want {
		t.Errorf("of nothing: %q", out.String())
	}

	old := sampleBackup("20261121T073000Z", -24*time.Hour)
	old.StartLSN, old.EndLSN, old.Timeline, old.Label, old.From = 0x2000028, 0x2100000, 1, "a\x1bb", FromPrimary
	good := sampleBackup("20261122T073000Z", 0)
	for _, b := range []*Backup{old, good} {
		set(mem, b.ID, archive.BackupStart, must[[]byte](t)(encodeStart(b.Start)))
		b.Objects[1].Size = 1 << 20
		for _, o := range b.Objects {
			set(mem, b.ID, o.File, make([]byte, o.Size))
		}
		set(mem, b.ID, archive.BackupEnd, must[[]byte](t)(encodeBackup(b)))
	}
	set(mem, "20261122T083000Z", archive.BackupStart, must[[]byte](t)(encodeStart(sampleStart("20261122T083000Z", time.Hour))))
	set(mem, "x", archive.BackupStart, nil)
	wal(mem, "2@0/4000000<1", sealed(2, 0x50))
	pauses := 0
	r := report(func(context.Context) error { pauses++; return nil })
	want := `BACKUP            STATE    STARTED                  TOOK  TIMELINE  START      END        SIZE   STORED   OF       WAL                     LABEL
x                 damaged  -                        -     -         -          -          -      -        -        -                       -
20261121T073000Z  good     2026-11-21 07:30:00 UTC  1m0s  1, 2      0/2000028  0/2100000  406 B  1.00 MB  primary  missing from 0/2000000  "a\x1bb"
20261122T073000Z  good     2026-11-22 07:30:00 UTC  1m0s  2         0/5000028  0/5000140  406 B  1.00 MB  standby  complete                nightly
20261122T083000Z  running  2026-11-22 08:30:00 UTC  -     2         0/5000028  -          -      213 B    standby  -                       nightly
`
	if !strings.HasPrefix(out.String(), want) {
		t.Errorf("(-want +got)\n%s", cmp.Diff(want, out.String()))
	}
	for _, line := range []string{
		"x: archived object 7411122233344455566/backup/x/start.json is damaged: unexpected end of JSON input\n",
		"20261121T073000Z: 000000010000000000000020 is missing in the archive, which has later WAL\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("lacks %q:\n%s", line, out.String())
		}
	}
	if pauses != maxLooks-1 || len(r.Backups) != 4 || r.Backups[2].WAL == nil || !r.Backups[2].WAL.Complete || r.Backups[3].WAL != nil {
		t.Errorf("%d pauses, %+v", pauses, r)
	}

	set(mem, good.ID, "base.000002.tar.zst", nil)
	r = report(func(context.Context) error { return nil })
	const lack = "7411122233344455566/backup/20261122T073000Z/base.000002.tar.zst has 0 bytes in the archive, 12 were put"
	if l := r.Backups[2]; l.State != Damaged || l.Damage != lack || !strings.Contains(out.String(), "\n20261122T073000Z: "+lack+"\n") {
		t.Errorf("without an object: %+v\n%s", l, out.String())
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "", 1: "1 B", 999: "999 B", 1000: "0.98 kB", 1024: "1.00 kB", 10 << 10: "10.0 kB", 999 << 10: "999 kB", 1 << 20: "1.00 MB",
		150 << 30: "150 GB", 5 << 50: "5120 TB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d bytes: %q, want %q", bytes, got, want)
		}
	}
}
