package integration

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// archivedWAL is what an archive holds of the WAL of a cluster, as other tools see
// it.
type archivedWAL struct {
	t    testing.TB
	dir  string // of the cluster
	size segment.Size
}

func archiveOf(t testing.TB, c *pgtest.Cluster, archive string) *archivedWAL {
	t.Helper()
	return &archivedWAL{t, filepath.Join(archive, c.SystemID(), "wal"), segment.Size(c.SegmentSize)}
}

// plain is the content of an object.
func (a *archivedWAL) plain(path string) []byte {
	a.t.Helper()
	data, err := exec.Command("zstd", "-dcq", path).Output()
	if err != nil {
		a.t.Fatalf("zstd -d of %s: %v", path, err)
	}
	return data
}

// sealed is the content of a complete segment; nil if there is none.
func (a *archivedWAL) sealed(n segment.Name) []byte {
	a.t.Helper()
	name := n.Format(a.size)
	path := filepath.Join(a.dir, name[:8], name+".zst")
	if !exists(path) {
		return nil
	}
	return a.plain(path)
}

// partials are the contents of all partials of a segment.
func (a *archivedWAL) partials(n segment.Name) (contents [][]byte) {
	a.t.Helper()
	name := n.Format(a.size)
	paths, err := filepath.Glob(filepath.Join(a.dir, name[:8], name+".*.partial.zst"))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, path := range paths {
		contents = append(contents, a.plain(path))
	}
	return contents
}

// segments are the complete segments of a timeline, in order.
func (a *archivedWAL) segments(t segment.TimelineID) (names []segment.Name) {
	a.t.Helper()
	for _, base := range filesIn(a.t, filepath.Join(a.dir, t.String())) {
		text, ok := strings.CutSuffix(base, ".zst")
		if !ok || strings.Contains(text, ".") {
			continue
		}
		n, err := segment.ParseName(text, a.size)
		if err != nil {
			a.t.Fatal(err)
		}
		names = append(names, n)
	}
	return names
}

// history is that of a timeline, after all up to it were compared with the
// servers' own.
func (a *archivedWAL) history(kept string, t segment.TimelineID) segment.History {
	a.t.Helper()
	var h segment.History
	var err error
	for tli := segment.TimelineID(2); tli <= t; tli++ {
		data := readFile(a.t, filepath.Join(kept, segment.HistoryName(tli)))
		if ours := readFile(a.t, filepath.Join(a.dir, segment.HistoryName(tli))); !bytes.Equal(ours, data) {
			a.t.Errorf("the archived %s is not the server's", segment.HistoryName(tli))
		}
		if h, err = segment.ParseHistory(tli, data); err != nil {
			a.t.Fatal(err)
		}
	}
	return h
}

// isWhole compares the archive with the segments that the servers wrote, each
// timeline from where it began to where it ended, and finds no hole.
func (a *archivedWAL) isWhole(h segment.History, kept, first, last string) {
	a.t.Helper()
	begin, end := a.name(first).Start(a.size), a.name(last).End(a.size)
	compared, borders := 0, 0
	for i := 0; i <= len(h.Entries); i++ {
		t, fork := h.Timeline, end
		if i < len(h.Entries) {
			t, fork = h.Entries[i].Timeline, h.Entries[i].End
		}
		for n := (segment.Name{Timeline: t, Number: a.size.Number(begin)}); n.End(a.size) <= fork; n = n.Next() {
			if a.sealed(n) == nil {
				a.t.Errorf("hole: %s is not archived", n.Format(a.size))
			}
		}
		compared += a.sameSegments(t, kept)
		if a.size.Offset(fork) != 0 {
			a.reachesFork(t, fork, kept)
		} else if fork != end {
			borders++
		}
		begin = a.size.Floor(fork)
	}
	a.t.Logf("%d segments on %d timelines are the servers' own; %d forks on a border", compared, len(h.Entries)+1, borders)
}

func (a *archivedWAL) name(text string) segment.Name {
	a.t.Helper()
	n, err := segment.ParseName(text, a.size)
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

// sameSegments compares the complete segments of a timeline, abandoned ones as
// well, with those of the server that wrote them.
func (a *archivedWAL) sameSegments(t segment.TimelineID, kept string) (compared int) {
	a.t.Helper()
	for _, n := range a.segments(t) {
		compared++
		if !bytes.Equal(a.sealed(n), readFile(a.t, filepath.Join(kept, n.Format(a.size)))) {
			a.t.Errorf("the archived %s is not the server's", n.Format(a.size))
		}
	}
	return compared
}

// reachesFork checks that the segment in which a timeline ended is there at
// least up to the fork, and holds nothing but what its server wrote.
func (a *archivedWAL) reachesFork(t segment.TimelineID, fork segment.LSN, kept string) {
	a.t.Helper()
	n := segment.Name{Timeline: t, Number: a.size.Number(fork)}
	if a.sealed(n) != nil {
		return // sameSegments has compared it
	}
	partials := a.partials(n)
	if len(partials) == 0 {
		a.t.Errorf("hole: nothing of %s is archived, which ends at %s", n.Format(a.size), fork)
	}
	for _, p := range partials {
		a.begun(n, p, fork, kept)
	}
}

// begun checks that a partial holds what the server had written to the segment, up
// to a position at least, and nothing else.
func (a *archivedWAL) begun(n segment.Name, partial []byte, upTo segment.LSN, kept string) {
	a.t.Helper()
	server := readFile(a.t, filepath.Join(kept, n.Format(a.size)))
	same := 0
	for same < len(partial) && partial[same] == server[same] {
		same++
	}
	if int64(same) < a.size.Offset(upTo) {
		a.t.Errorf("the partial of %s differs from the server's at %d, below %s", n.Format(a.size), same, upTo)
	}
	if len(bytes.Trim(partial[same:], "\x00")) > 0 {
		a.t.Errorf("the partial of %s holds what its server did not write, from %d on", n.Format(a.size), same)
	}
}

// awaitArchived ends the segment that a server writes, waits until it is archived,
// and returns its name.
func awaitArchived(t testing.TB, c *pgtest.Cluster, archive string) string {
	t.Helper()
	name := c.SwitchWAL()
	pgtest.Eventually(t, patience, func() bool { return exists(object(c, archive, name)) }, "%s does not get archived", name)
	return name
}
