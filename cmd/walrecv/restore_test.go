package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/restore"
)

// walSegment is a segment of 1 MiB as far as its first page; the rest is zeros.
func walSegment(number uint64) []byte {
	const size = 1 << 20
	segment := make([]byte, size)
	binary.LittleEndian.PutUint16(segment[0:], 0xD110) // PostgreSQL 15
	binary.LittleEndian.PutUint16(segment[2:], 2)      // a long header
	binary.LittleEndian.PutUint32(segment[4:], 1)      // timeline
	binary.LittleEndian.PutUint64(segment[8:], number*size)
	binary.LittleEndian.PutUint64(segment[24:], 7400000000000000001)
	binary.LittleEndian.PutUint32(segment[32:], size)
	binary.LittleEndian.PutUint32(segment[36:], 8192)
	return segment
}

// The command as PostgreSQL runs it, from a directory as pg_receivewal leaves
// it; the rules are tested where they are made.
func TestRestoreCommand(t *testing.T) {
	const first, second = "000000010000000000000003", "000000010000000000000004"
	archive, data := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(archive, first), walSegment(3), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(data, "pg_wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "recovery.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(data)
	target := filepath.Join("pg_wal", "RECOVERYXLOG")
	command := func(file string, options ...string) outcome {
		var o outcome
		var stdout, stderr bytes.Buffer
		args := append([]string{"restore", "--retry-for", "0"}, options...)
		o.code = run(context.Background(), append(args, file, target), nil, &stdout, &stderr)
		o.stdout, o.stderr = stdout.String(), stderr.String()
		return o
	}

	o := command(first, "--archive", archive)
	got, err := os.ReadFile(target)
	if o != (outcome{}) || err != nil || !bytes.Equal(got, walSegment(3)) {
		t.Fatalf("present: %+v, %d bytes, %v", o, len(got), err)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if o := command(first, "--spool", archive); o != (outcome{}) {
		t.Errorf("present in the spool: %+v", o)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if o := command(second, "--archive", archive); o != (outcome{code: restore.CodeAbsent}) {
		t.Errorf("absent: %+v", o)
	}
	for _, c := range []struct {
		what string
		o    outcome
		code int
	}{
		{"lower case", command("00000001000000000000000a", "--archive", archive), restore.CodeMisconfigured},
		{"outside", command("../"+first, "--archive", archive), restore.CodeMisconfigured},
		{"of another cluster", command(first, "--archive", archive, "--system-id", "7400000000000000002"), restore.CodeMisconfigured},
		{"archive not mounted", command(first, "--archive", filepath.Join(archive, "nowhere")), restore.CodeMisconfigured},
	} {
		if c.o.code != c.code || c.o.stdout != "" || strings.Count(c.o.stderr, "\n") != 1 || !strings.HasPrefix(c.o.stderr, "walrecv: ") || strings.Count(c.o.stderr, "archive "+archive) > 1 {
			t.Errorf("%s: %+v; want %d and one line that names the archive once", c.what, c.o, c.code)
		}
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("something was put in place")
	}
}
