package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// verified is what "walrecv verify --json" prints, as far as it matters here.
type verified struct {
	SystemID  string `json:"system_identifier"`
	Sound     bool   `json:"sound"`
	Complete  bool   `json:"complete"`
	Segments  int    `json:"segments"`
	Partials  int    `json:"partials"`
	Bytes     int64  `json:"bytes"`
	Records   int    `json:"records"`
	Unchecked int64  `json:"unchecked_bytes"`
	Timelines []struct {
		Timeline int    `json:"timeline"`
		Parent   int    `json:"parent_timeline"`
		Fork     string `json:"fork_lsn"`
	} `json:"timelines"`
	Findings []verifyFinding `json:"findings"`
	Unread   []verifyFinding `json:"not_checked"`
	Notices  []verifyFinding `json:"notices"`
}

type verifyFinding struct {
	Kind    string `json:"kind"`
	Object  string `json:"object"`
	LSN     string `json:"lsn"`
	Message string `json:"message"`
	Advice  string `json:"advice"`
}

// verifyArchive runs "walrecv verify", for people and for programs, which have to
// agree.
func verifyArchive(t testing.TB, archive string, want int, args ...string) (v verified, text string) {
	t.Helper()
	args = append([]string{"verify", "--archive", archive}, args...)
	bin := pgtest.Build(t)
	code, text, stderr := pgtest.Run(t, bin, args...)
	if code != want || stderr != "" {
		t.Fatalf("%s: ended with %d, want %d: %s%s", args, code, want, text, stderr)
	}
	code, stdout, stderr := pgtest.Run(t, bin, append(args, "--json")...)
	if code != want || stderr != "" {
		t.Fatalf("%s --json: ended with %d, want %d: %s%s", args, code, want, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	if v.Findings == nil || v.Unread == nil || v.Notices == nil {
		t.Errorf("a list is null: %s", stdout)
	}
	if lines := strings.Count(text, "\n"); lines != 1+len(v.Findings)+len(v.Unread)+len(v.Notices) {
		t.Errorf("%d lines: %s%s", lines, text, stdout)
	}
	return v, text
}

// TestVerify archives a server through a change of its timeline, has the archive
// proven, and breaks it.
func TestVerify(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, Settings: map[string]string{
				"wal_keep_size": "2GB", "max_wal_size": "4GB", "restore_command": "false",
			}})
			c.Start()
			archive := newArchive(t)
			r := newReceiver(t, c, "--archive", archive).start()
			fill(c, 3)
			c.Exec("select pg_logical_emit_message(true, 'walrecv', repeat('0123456789', 350000))")
			c.SwitchWAL()
			fill(c, 1)
			r.flushed()
			c.Stop(pgtest.Immediate)
			signal := filepath.Join(c.DataDir, "recovery.signal")
			if err := os.WriteFile(signal, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			pgtest.Give(t, signal)
			c.Start()
			c.WaitFor("select pg_is_in_recovery()", "f", patience)
			first := walFile(c)
			fill(c, 3)
			last := walFile(c)
			c.SwitchWAL()
			archivedLikeServer(t, c, archive, first, last)
			r.stop()
			soundArchive(t, c, archive)
			brokenArchive(t, c, archive, last)
		})
	}
}

// soundArchive finds the archive sound, in which there may be a bit of a tail.
func soundArchive(t *testing.T, c *pgtest.Cluster, archive string) {
	plain, text := verifyArchive(t, archive, 0)
	if !strings.HasPrefix(text, "sound: ") || !plain.Sound || !plain.Complete || plain.SystemID != c.SystemID() ||
		plain.Segments < 10 || plain.Partials != 1 || plain.Bytes>>20 != int64(plain.Segments+plain.Partials) {
		t.Errorf("%+v: %s", plain, text)
	}
	deep, text := verifyArchive(t, archive, 0, "--deep", "--system-id", c.SystemID())
	if deep.Segments != plain.Segments || deep.Records < 1000 || len(deep.Timelines) != 2 || deep.Timelines[1].Parent != 1 {
		t.Errorf("%+v: %s", deep, text)
	}
	late, _ := verifyArchive(t, archive, 0, "--since", deep.Timelines[1].Fork)
	if late.Segments == 0 || late.Segments >= plain.Segments {
		t.Errorf("%d segments of %d since %s", late.Segments, plain.Segments, deep.Timelines[1].Fork)
	}
	if late, _ = verifyArchive(t, archive, 0, "--since", c.Query("select to_char(now(), 'YYYY-MM-DD HH24:MI:SS.USOF')")); late.Segments == 0 || late.Segments >= plain.Segments {
		t.Errorf("%d segments of %d since now", late.Segments, plain.Segments)
	}
}

// about tells whether one of the findings is about the object at a path, with
// something to do about it.
func about(list []verifyFinding, archive, path string) bool {
	return slices.ContainsFunc(list, func(f verifyFinding) bool { return filepath.Join(archive, f.Object) == path && f.Advice != "" })
}

func giveFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, path)
}

func removeFile(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// brokenArchive breaks an archive in several ways, one after the other.
func brokenArchive(t *testing.T, c *pgtest.Cluster, archive, last string) {
	number, err := strconv.ParseUint(last[16:], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	brokenSegment(t, archive, object(c, archive, fmt.Sprintf("%s%08X", last[:16], number-1)))
	foreign := filepath.Join(archive, c.SystemID(), "README")
	giveFile(t, foreign, []byte("mine"))
	if v, text := verifyArchive(t, archive, 0); len(v.Notices) != 1 || v.Notices[0].Kind != "foreign" {
		t.Errorf("a foreign file: %s", text)
	}
	brokenIdentity(t, c, archive)
	lostWAL(t, c, archive)
}

// brokenSegment breaks one object, and leaves it as it was.
func brokenSegment(t *testing.T, archive, victim string) {
	whole, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(whole)
	bad[len(bad)/2] ^= 0x10
	giveFile(t, victim, bad)
	if v, text := verifyArchive(t, archive, 3); len(v.Findings) != 1 || !about(v.Findings, archive, victim) || !strings.Contains(text, "\nnot sound (1 finding): ") {
		t.Errorf("a flipped bit: %s", text)
	}
	removeFile(t, victim)
	if v, text := verifyArchive(t, archive, 3, "--deep"); len(v.Findings) != 1 || v.Findings[0].Kind != "hole" || !about(v.Findings, archive, victim) {
		t.Errorf("a missing segment: %s", text)
	}
	if err := os.Symlink(filepath.Base(victim), victim); err != nil { // a loop: it cannot be opened
		t.Fatal(err)
	}
	if v, text := verifyArchive(t, archive, 1); !v.Sound || v.Complete || len(v.Unread) != 1 || !about(v.Unread, archive, victim) {
		t.Errorf("an object that cannot be read: %s", text)
	}
	removeFile(t, victim)
	giveFile(t, victim, whole)
}

// brokenIdentity takes the identity away for a while: without it nothing can be
// verified.
func brokenIdentity(t *testing.T, c *pgtest.Cluster, archive string) {
	identity := filepath.Join(archive, c.SystemID(), "walrecv.json")
	if err := os.Rename(identity, identity+".old"); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct {
		code int
		says string
		args []string
	}{
		{3, "walrecv.json is missing", []string{"--archive", archive}},
		{1, "", []string{"--archive", archive + "-elsewhere"}},
		{2, "--archive", nil},
		{2, "no offset", []string{"--archive", archive, "--since", "2026-01-01 12:00"}},
		{2, "neither a WAL position", []string{"--archive", archive, "--since", "12:00+00"}},
		{2, "invalid system identifier", []string{"--archive", archive, "--system-id", "x"}},
	} {
		code, stdout, stderr := pgtest.Run(t, pgtest.Build(t), append([]string{"verify"}, wrong.args...)...)
		if code != wrong.code || stdout != "" || !strings.Contains(stderr, wrong.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("verify %s: ended with %d, want %d: %s%s", wrong.args, code, wrong.code, stdout, stderr)
		}
	}
	if err := os.Rename(identity+".old", identity); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := pgtest.Run(t, pgtest.Build(t), "verify", "--archive", archive, "--system-id", "1")
	if code != 4 || stdout != "" || !strings.Contains(stderr, c.SystemID()) {
		t.Errorf("of another cluster: ended with %d: %s%s", code, stdout, stderr)
	}
}

// lostWAL removes all segments and partials, and the tail.
func lostWAL(t *testing.T, c *pgtest.Cluster, archive string) {
	files, err := filepath.Glob(filepath.Join(archive, c.SystemID(), "wal", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		removeFile(t, file)
	}
	if err := os.RemoveAll(inArchive(c, archive, "tail")); err != nil {
		t.Fatal(err)
	}
	if v, text := verifyArchive(t, archive, 3); !slices.ContainsFunc(v.Findings, func(f verifyFinding) bool { return f.Kind == "empty" }) {
		t.Errorf("an archive without WAL: %s", text)
	}
}
