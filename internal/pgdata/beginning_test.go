package pgdata

import "testing"

func TestBeginning(t *testing.T) {
	d := Dir{FS: disk(t, map[string]string{"/data/backup_label": "START WAL LOCATION: 0/2000028\n"}), Path: "/data"}
	if !d.Beginning() {
		t.Error("a recovery that has not begun is not seen")
	}
	if err := d.FS.Rename("/data/backup_label", "/data/backup_label.old"); err != nil {
		t.Fatal(err)
	}
	if d.Beginning() {
		t.Error("the recovery has begun")
	}
}
