package main

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// written are two clients that sent three rows each. The first saw all of them
// committed, the second all but the last.
func written() []*client {
	clients := []*client{{id: 0, seed: 7}, {id: 1, seed: 7}}
	for _, c := range clients {
		c.sent.Store(3)
		c.seen.Store(int64(3 - c.id))
	}
	return clients
}

func rowsWithout(without ...row) []row {
	var rows []row
	for id := range 2 {
		for n := 1; n <= 3; n++ {
			rows = append(rows, row{id, n, payload(7, id, n)})
		}
	}
	for _, r := range without {
		for i := range rows {
			if rows[i].client == r.client && rows[i].n == r.n {
				rows = append(rows[:i], rows[i+1:]...)
				break
			}
		}
	}
	return rows
}

func TestCompare(t *testing.T) {
	tests := map[string]struct {
		restored []row
		inDoubt  int
		fault    string
	}{
		"all":                       {restored: rowsWithout(), inDoubt: 1},
		"without the one in doubt":  {restored: rowsWithout(row{client: 1, n: 3})},
		"a committed one missing":   {restored: rowsWithout(row{client: 0, n: 2}), fault: "1 are missing"},
		"the last one missing":      {restored: rowsWithout(row{client: 0, n: 3}), fault: "1 are missing"},
		"none":                      {fault: "5 are missing"},
		"a hole before the doubt":   {restored: rowsWithout(row{client: 1, n: 2}), fault: "1 are missing"},
		"one that nobody sent":      {restored: append(rowsWithout(), row{1, 4, payload(7, 1, 4)}), fault: "1 rows were sent by nobody"},
		"one of nobody":             {restored: append(rowsWithout(), row{2, 1, ""}), fault: "1 rows were sent by nobody"},
		"an altered one":            {restored: append(rowsWithout(row{client: 0, n: 1}), row{0, 1, "00"}), fault: "1 rows are altered"},
		"an altered one in doubt":   {restored: append(rowsWithout(row{client: 1, n: 3}), row{1, 3, "00"}), fault: "1 rows are altered"},
		"what another client wrote": {restored: append(rowsWithout(row{client: 0, n: 1}), row{0, 1, payload(7, 1, 1)}), fault: "1 rows are altered"},
	}
	for name, test := range tests {
		inDoubt, err := compare(test.restored, written())
		switch {
		case test.fault == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)):
			t.Errorf("%s: %v, want %q", name, err, test.fault)
		case inDoubt != test.inDoubt:
			t.Errorf("%s: %d in doubt, want %d", name, inDoubt, test.inDoubt)
		}
	}
}

func TestCompareSegments(t *testing.T) {
	s := &stage{dir: t.TempDir()}
	if err := s.mkdir("home"); err != nil {
		t.Fatal(err)
	}
	const name = "000000010000000000000001"
	plain := filepath.Join(s.dir, name)
	if err := os.WriteFile(plain, []byte("what stands in a segment"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "zstd", "-q", plain).CombinedOutput(); err != nil {
		t.Fatalf("zstd: %v: %s", err, out)
	}
	archived := []string{plain + ".zst"}
	right := map[string]digest{name: sha256.Sum256([]byte("what stands in a segment"))}
	wrong := map[string]digest{name: sha256.Sum256([]byte("what stood in a segment"))}

	if n, err := compareSegments(t.Context(), s, archived, right); n != 1 || err != nil {
		t.Errorf("equal: %d, %v", n, err)
	}
	if n, err := compareSegments(t.Context(), s, archived, nil); n != 0 || err != nil {
		t.Errorf("nothing to compare with: %d, %v", n, err)
	}
	for what, err := range map[string]error{
		"does not give the bytes": second(compareSegments(t.Context(), s, archived, wrong)),
		"gone from the archive":   second(compareSegments(t.Context(), s, nil, right)),
		"zstd -d " + name:         second(compareSegments(t.Context(), s, []string{plain}, right)),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}

func second[A, B any](_ A, b B) B { return b }
