package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestDocuments(t *testing.T) {
	start := sampleStart("x", 0)
	data := must[[]byte](t)(encodeStart(start))
	const want = `{"format":1,"id":"x","system_identifier":"7411122233344455566","postgresql_major":15,"timeline":2,"start_lsn":"0/5000028","label":"nightly","started":"2026-11-22T07:30:00.123456Z","from":"standby"}` + "\n"
	if string(data) != want {
		t.Errorf("start.json is %s, want %s", data, want)
	}
	if got := must[Start](t)(decodeStart("x", data)); got != start {
		t.Errorf("read as %+v, want %+v", got, start)
	}
	b := sampleBackup("x", 0)
	b.Tablespaces = append(b.Tablespaces[:1:1], Tablespace{OID: 16385, Location: "/srv/\xe4", Size: 1}, b.Tablespaces[1])
	b.Objects = append([]archive.Stored{{File: "16385.000001.tar.zst"}}, b.Objects...)
	data = must[[]byte](t)(encodeBackup(b))
	if got := must[*Backup](t)(decodeBackup("x", data)); !reflect.DeepEqual(got, b) {
		t.Errorf("read as %+v, want %+v", got, b)
	}
	for _, part := range []string{
		`"format": 1`, `"id": "x"`, `"end_lsn": "0/5000140"`, `"end_timeline": 2`, `"finished": "2026-11-22T07:31:00.123456Z"`, `"server_version": "15.20"`,
		`"oid": 16384`, `"location": "/srv/a b"`, `"encoded_location": "2f7372762fe4"`, `"size": 4194304`, `"file": "base.000002.tar.zst"`, `"plain_size": 102`, `"stored_size": 46`, `"sha256": "02000000`,
	} {
		if !bytes.Contains(data, []byte(part)) {
			t.Errorf("backup.json lacks %s: %s", part, data)
		}
	}
}

// TestImpossibleDocuments: no document passes that a restore could not use.
func TestImpossibleDocuments(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*Backup)
	}{
		{`it is of the backup "y"`, func(b *Backup) { b.ID = "y" }},
		{"it does not say where the backup begins", func(b *Backup) { b.StartLSN = 0 }},
		{"it does not say where the backup begins", func(b *Backup) { b.Timeline = 0 }},
		{"it does not say when the backup began", func(b *Backup) { b.Started = time.Time{} }},
		{"it does not say when the backup ended", func(b *Backup) { b.Finished = time.Time{} }},
		{"it ends before it begins", func(b *Backup) { b.EndLSN = b.StartLSN - 1 }},
		{"it ends before it begins", func(b *Backup) { b.EndTimeline = 1 }},
		{"it has no manifest", func(b *Backup) { b.Objects = b.Objects[:3] }},
		{"it lacks base.000002.tar", func(b *Backup) { b.Objects[2].File = "base.000003.tar.zst" }},
		{"it lacks the tar of tablespace 16384", func(b *Backup) { b.Objects = b.Objects[1:] }},
		{"it lacks the data directory", func(b *Backup) {
			b.Tablespaces, b.Objects = b.Tablespaces[:1], append(b.Objects[:1:1], b.Objects[3])
		}},
		{`it has an impossible tablespace 16384 at "/x"`, func(b *Backup) { b.Tablespaces[1] = Tablespace{OID: 16384, Location: "/x"} }},
		{`it has an impossible tablespace 0 at "/srv/a b"`, func(b *Backup) { b.Tablespaces[0].OID = 0 }},
		{"it has objects that are of no tablespace", func(b *Backup) { b.Tablespaces = b.Tablespaces[1:] }},
		{"it has objects that are of no tablespace", func(b *Backup) { b.Objects = append(b.Objects, b.Objects[3]) }},
	} {
		b := sampleBackup("x", 0)
		c.change(b)
		if _, err := decodeBackup("x", must[[]byte](t)(encodeBackup(b))); err == nil || err.Error() != c.want {
			t.Errorf("read with %v, want %q", err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	start, _ := encodeStart(sampleStart("x", 0))
	end, _ := encodeBackup(sampleBackup("x", 0))
	f.Add(start)
	f.Add(end)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeBackup("x", data)
		if err != nil {
			return
		}
		again, err := encodeBackup(b)
		if err != nil {
			return // a time that JSON cannot have
		}
		c, err := decodeBackup("x", again)
		if err != nil || !reflect.DeepEqual(b, c) {
			t.Errorf("%s was read as %+v, and what is written of that as %+v, %v", data, b, c, err)
		}
	})
}

func TestList(t *testing.T) {
	mem := storagetest.NewMem()
	a := newArchive(t, mem)
	hour := time.Hour
	good, start := sampleBackup("b-good", hour), sampleStart("a-running", 2*hour)
	set(mem, "b-good", archive.BackupStart, must[[]byte](t)(encodeStart(good.Start)))
	set(mem, "b-good", archive.BackupEnd, must[[]byte](t)(encodeBackup(good)))
	set(mem, "b-good", "base.000001.tar.zst", make([]byte, 1000))
	set(mem, "a-running", archive.BackupStart, must[[]byte](t)(encodeStart(start)))
	old := sampleStart("c-abandoned", 0)
	set(mem, "c-abandoned", archive.BackupStart, must[[]byte](t)(encodeStart(old)))
	set(mem, "d-damaged", archive.BackupStart, must[[]byte](t)(encodeStart(sampleStart("d-damaged", 3*hour))))
	set(mem, "d-damaged", archive.BackupEnd, []byte(`{"format":1`))
	set(mem, "e-later", archive.BackupStart, []byte(`{"format":2}`))
	set(mem, "f-headless", "base.000001.tar.zst.age", nil)
	set(mem, "g-other", archive.BackupStart, must[[]byte](t)(encodeStart(old)))
	set(mem, ".odd", archive.BackupStart, nil)

	entries := must[[]Entry](t)(List(t.Context(), a, day.Add(24*hour)))
	type short struct {
		ID     string
		State  State
		Damage string
		Good   bool
		LSN    string
	}
	var got []short
	for _, e := range entries {
		s := short{ID: e.ID, State: e.State, Good: e.Backup != nil, LSN: e.StartLSN.String()}
		if e.Damage != nil {
			s.Damage = e.Damage.Error()
		}
		got = append(got, s)
	}
	at := func(id, file string) string { return "archived object " + key(id, file) + " is damaged: " }
	want := []short{
		{"e-later", Damaged, key("e-later", "start.json") + ": archive format 2 is unknown to this version, which knows 1", false, "0/0"},
		{"f-headless", Damaged, key("f-headless", "start.json") + " is missing", false, "0/0"},
		{"g-other", Damaged, at("g-other", "start.json") + `it is of the backup "c-abandoned"`, false, "0/0"},
		{"c-abandoned", Abandoned, "", false, "0/5000028"},
		{"b-good", Good, "", true, "0/5000028"},
		{"a-running", Running, "", false, "0/5000028"},
		{"d-damaged", Damaged, at("d-damaged", "backup.json") + "unexpected end of JSON input", false, "0/5000028"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if entries[4].Stored < 1500 || !reflect.DeepEqual(entries[4].Backup, good) {
		t.Errorf("the good one is %+v", entries[4])
	}
}

// TestListWithFaults: whatever request fails, the list is right or an error.
func TestListWithFaults(t *testing.T) {
	mem := storagetest.NewMem()
	newArchive(t, mem)
	set(mem, "a", archive.BackupStart, must[[]byte](t)(encodeStart(sampleStart("a", 0))))
	set(mem, "b", archive.BackupStart, must[[]byte](t)(encodeStart(sampleStart("b", 0))))
	set(mem, "b", archive.BackupEnd, must[[]byte](t)(encodeBackup(sampleBackup("b", 0))))
	for k := 1; ; k++ {
		store := storagetest.NewFaulty(mem, storagetest.FailAt(k, storagetest.Fault{After: storagetest.ErrInjected}))
		a, err := archive.Open(t.Context(), store, testSystem, archive.Keys{})
		var entries []Entry
		if err == nil {
			entries, err = List(t.Context(), a, day)
		}
		if store.Fired() == 0 {
			if err != nil || len(entries) != 2 || k != 5 {
				t.Errorf("request %d: %v, %v", k, entries, err)
			}
			return
		}
		if !errors.Is(err, storagetest.ErrInjected) {
			t.Errorf("request %d: %v", k, err)
		}
	}
}

// TestListWhileDeleting: what is deleted between listing and reading is not there.
func TestListWhileDeleting(t *testing.T) {
	mem := storagetest.NewMem()
	newArchive(t, mem)
	set(mem, "a", archive.BackupStart, must[[]byte](t)(encodeStart(sampleStart("a", 0))))
	set(mem, "b", archive.BackupStart, must[[]byte](t)(encodeStart(sampleStart("b", 0))))
	set(mem, "b", archive.BackupEnd, must[[]byte](t)(encodeBackup(sampleBackup("b", 0))))
	store := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
		if r.Key == key("b", archive.BackupEnd) || r.Key == key("a", archive.BackupStart) {
			return storagetest.Fault{Before: fs.ErrNotExist}
		}
		return storagetest.Fault{}
	})
	a := must[*archive.Archive](t)(archive.Open(t.Context(), store, testSystem, archive.Keys{}))
	entries := must[[]Entry](t)(List(t.Context(), a, day))
	if len(entries) != 1 || entries[0].ID != "b" || entries[0].State != Running {
		t.Errorf("%+v", entries)
	}
}

// TestUnknownMembers: later versions add some.
func TestUnknownMembers(t *testing.T) {
	data := must[[]byte](t)(encodeStart(sampleStart("x", 0)))
	var members map[string]any
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	members["more"] = []int{1}
	if got := must[Start](t)(decodeStart("x", must[[]byte](t)(json.Marshal(members)))); got != sampleStart("x", 0) {
		t.Errorf("%+v", got)
	}
}

// TestLastAdded: what was added last decides, by the store's clock.
func TestLastAdded(t *testing.T) {
	mem := storagetest.NewMem()
	a := newArchive(t, mem)
	at := day
	mem.Now = func() time.Time { return at }
	set(mem, "x", archive.BackupStart, must[[]byte](t)(encodeStart(sampleStart("x", -100*time.Hour))))
	at = day.Add(time.Hour)
	set(mem, "x", "base.000001.tar.zst", nil)
	for now, want := range map[time.Time]State{at.Add(Patience - 1): Running, at.Add(Patience): Abandoned} {
		if e := must[[]Entry](t)(List(t.Context(), a, now))[0]; e.State != want || !e.LastAdded.Equal(at) {
			t.Errorf("at %s: %+v", now, e)
		}
	}
}
