package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestLinkToATakenName(t *testing.T) {
	for name, link := range map[string]func(FS, File, string, string) error{"Link": Link, "LinkKeep": LinkKeep} {
		t.Run(name, func(t *testing.T) {
			mem := NewMem()
			put(t, mem, "name", "first")
			put(t, mem, "scratch", "second")
			wantErr(t, link(mem, nil, "scratch", "name"), fs.ErrExist)
			wantContent(t, mem, "name", "first")
			wantContent(t, mem, "scratch", "second")
			// The winner never came to its sync: this made the name durable.
			wantNames(t, mem.CrashClone(nil), "/", "name", "scratch")

			fault := NewFault(mem, failing(OpSyncDir))
			err := link(fault, nil, "scratch", "name")
			wantErr(t, err, errInjected)
			if errors.Is(err, fs.ErrExist) {
				t.Error("a name that may vanish is reported as taken")
			}
		})
	}
}

func failing(kind OpKind) func(Op) error {
	return func(op Op) error {
		if op.Kind == kind {
			return errInjected
		}
		return nil
	}
}

func TestOldNameStays(t *testing.T) {
	mem := NewMem()
	check(t, WriteFile(mem, "scratch", 0o600, newBytes))
	err := Link(NewFault(mem, failing(OpRemove)), nil, "scratch", "name")
	wantErr(t, err, ErrOldNameStays)
	wantErr(t, err, errInjected)
	wantNames(t, mem.CrashClone(nil), "/", "name", "scratch")

	// One that somebody else has removed is what was wanted.
	gone := NewFault(mem, func(op Op) error {
		if op.Kind == OpRemove {
			return After(fs.ErrNotExist)
		}
		return nil
	})
	check(t, Link(gone, nil, "scratch", "other"))
}

// TestRenameSyncsBothDirectories, that of the new name first: a crash between
// them may leave two names, but never none.
func TestRenameSyncsBothDirectories(t *testing.T) {
	mem := NewMem()
	check(t, mem.Mkdir("from", 0o700))
	check(t, mem.Mkdir("to", 0o700))
	put(t, mem, "from/name", "")
	var got []string
	fault := NewFault(mem, func(op Op) error {
		got = append(got, string(op.Kind)+" "+op.Name)
		return nil
	})
	check(t, Rename(fault, nil, "from/name", "to/name"))
	if want := []string{"rename from/name", "syncdir to", "syncdir from"}; !slices.Equal(got, want) {
		t.Errorf("the order was %q", got)
	}
}

// TestWriteNewOvertaken lets one call run as a whole while another one has its
// scratch file half written.
func TestWriteNewOvertaken(t *testing.T) {
	mem := NewMem()
	slow := NewFault(mem, func(op Op) error {
		if op.Kind != OpWriteAt {
			return nil
		}
		if err := WriteNew(mem, "name", 0o600, newBytes); err != nil {
			t.Error(err)
		}
		return nil
	})
	wantErr(t, WriteNew(slow, "name", 0o600, oldBytes), fs.ErrExist)
	wantNames(t, mem, "/", "name")
	wantContent(t, mem, "name", string(newBytes))
}

// TestRacingWriteNew has one winner, and the others know it.
func TestRacingWriteNew(t *testing.T) {
	for name, open := range map[string]func() (FS, string){
		"OS":  func() (FS, string) { return OS(), t.TempDir() },
		"Mem": func() (FS, string) { return NewMem(), "/" },
	} {
		t.Run(name, func(t *testing.T) {
			fsys, dir := open()
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() { errs[i] = WriteNew(fsys, dir+"/name", 0o600, bytes.Repeat([]byte{byte(i)}, 9000)) })
			}
			wg.Wait()
			winner := slices.Index(errs, nil)
			if winner < 0 {
				t.Fatal(errs)
			}
			for i, err := range errs {
				if i != winner {
					wantErr(t, err, fs.ErrExist)
				}
			}
			wantNames(t, fsys, dir, "name")
			wantContent(t, fsys, dir+"/name", strings.Repeat(string(rune(winner)), 9000))
		})
	}
}

func TestMkdirAll(t *testing.T) {
	mem := NewMem()
	// The process that made a level may have ended before its sync.
	check(t, mem.Mkdir("a", 0o700))
	check(t, MkdirAll(mem, "/", "a", 0o700))
	wantNames(t, mem.CrashClone(nil), "/", "a")
	check(t, MkdirAll(mem, "/", ".", 0o700))
	wantNames(t, mem, "/", "a")

	put(t, mem, "a/file", "")
	for _, path := range []string{"a/file", "a/file/b"} {
		if err := MkdirAll(mem, "/", path, 0o700); err == nil {
			t.Errorf("%s: a file passed for a directory", path)
		}
	}
	for _, path := range []string{"", "/a", "a/", "../a", "a//b", "a/./b"} {
		wantErr(t, MkdirAll(mem, "/", path, 0o700), fs.ErrInvalid)
	}
	wantErr(t, MkdirAll(mem, "/none", "a", 0o700), fs.ErrNotExist)
}

func TestReadFileAndExists(t *testing.T) {
	mem := NewMem()
	for name, want := range map[string]bool{"name": true, "none": false, "none/name": false} {
		if want {
			check(t, WriteNew(mem, name, 0o600, newBytes))
			wantContent(t, mem, name, string(newBytes))
		} else {
			_, err := ReadFile(mem, name)
			wantErr(t, err, fs.ErrNotExist)
		}
		if got := must(Exists(mem, name))(t); got != want {
			t.Errorf("%s exists: %v", name, got)
		}
	}
	if _, err := Exists(mem, "/"); err == nil {
		t.Error("a directory passed for a file")
	}
	for _, kind := range []OpKind{OpOpenRead, OpSize, OpReadAt} {
		_, err := ReadFile(NewFault(mem, failing(kind)), "name")
		wantErr(t, err, errInjected)
	}
	_, err := Exists(NewFault(mem, failing(OpOpenRead)), "name")
	wantErr(t, err, errInjected)
}
