package drill

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/backup"
)

func TestPlace(t *testing.T) {
	as := &Account{}
	guard := func(string) error { return nil }
	base := t.TempDir()
	p, err := newPlace(t.Context(), base, as, guard)
	if err != nil {
		t.Fatal(err)
	}
	if p.gone() {
		t.Error("it is gone before anybody removed it")
	}
	got := p.mapping([]backup.Tablespace{{OID: 1, Location: "/srv/ts/"}, {OID: 2, Location: "pg_tblspc/2"}})
	if len(got) != 1 || got["/srv/ts"] != filepath.Join(p.dir, tablesDir, "1") {
		t.Errorf("mapping: %v", got)
	}
	if err := Clear(p.dirs()); err != nil || !p.gone() {
		t.Errorf("gone: %v, %v", p.gone(), err)
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{filepath.Join(base, "nowhere"), file} {
		_, err := newPlace(t.Context(), wrong, as, guard)
		if err == nil || !strings.Contains(err.Error(), "TMPDIR") || wrong != file && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
