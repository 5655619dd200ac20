package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// meterOf returns a metered store and what was told of it since the last look.
func meterOf(s storage.Store) (metered storage.Store, told func() []string) {
	var lines []string
	metered = storage.WithMeter(s, func(op storage.Op, err error) {
		lines = append(lines, fmt.Sprint(op, " ", err))
	})
	return metered, func() []string {
		defer func() { lines = nil }()
		return lines
	}
}

func expectTold(t *testing.T, what string, told func() []string, want ...string) {
	t.Helper()
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", what, got, want)
	}
}

// TestMeterTells: each request is told of once, with the error that it had.
func TestMeterTells(t *testing.T) {
	mem := storagetest.NewMem()
	s, told := meterOf(mem)
	ctx := t.Context()
	if err := s.Put(ctx, "dir/key", storage.BytesSource([]byte("content"))); err != nil {
		t.Fatal(err)
	}
	expectTold(t, "put", told, "put <nil>")
	err := s.Put(ctx, "dir/key", storage.BytesSource(nil))
	expectTold(t, "put of a taken key", told, "put "+err.Error())
	_, err = s.Stat(ctx, "dir/key")
	expectTold(t, "stat", told, "stat <nil>")
	if err != nil {
		t.Error(err)
	}
	_, err = s.Stat(ctx, "other")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of what is absent: %v", err)
	}
	expectTold(t, "stat of what is absent", told, "stat "+err.Error())
	_, _, err = s.Open(ctx, "other")
	expectTold(t, "open of what is absent", told, "open "+err.Error())
	stop := errors.New("enough")
	for what, fn := range map[string]func() error{
		"list":        func() error { return s.List(ctx, "", func(storage.Info) error { return nil }) },
		"list dirs":   func() error { return storage.ListDirs(ctx, s, "", func(string) error { return nil }) },
		"list, ended": func() error { return s.List(ctx, "", func(storage.Info) error { return stop }) },
		"dirs, ended": func() error { return storage.ListDirs(ctx, s, "", func(string) error { return stop }) },
		"list, panics": func() error {
			return recovered(func() { _ = s.List(ctx, "", func(storage.Info) error { panic(stop) }) })
		},
	} {
		if err := fn(); err != nil && !errors.Is(err, stop) {
			t.Errorf("%s: %v", what, err)
		}
		expectTold(t, what, told, "list <nil>")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	err = s.List(ended, "", func(storage.Info) error { return nil })
	expectTold(t, "list that fails", told, "list "+err.Error())
	if err := s.(storage.Deleter).Delete(ctx, "dir/key"); err != nil {
		t.Error(err)
	}
	expectTold(t, "delete", told, "delete <nil>")
}

func recovered(f func()) (err error) {
	defer func() { err, _ = recover().(error) }()
	f()
	return nil
}

// TestMeterTellsOfBodies: an Open is told of when its body is closed, once, with
// the first error of its reads.
func TestMeterTellsOfBodies(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		mem := storagetest.NewMem()
		mem.Sequential = sequential
		mem.Set("key", []byte("content"))
		s, told := meterOf(mem)
		ctx, cancel := context.WithCancel(t.Context())
		body, _, err := s.Open(ctx, "key")
		if err != nil {
			t.Fatal(err)
		}
		at, ok := body.(io.ReaderAt)
		if ok == sequential {
			t.Errorf("sequential %v, and ReaderAt %v", sequential, ok)
		}
		if _, err := io.ReadAll(body); err != nil {
			t.Error(err)
		}
		expectTold(t, "a body that was read", told)
		want := "open <nil>"
		if ok {
			cancel()
			_, err := at.ReadAt(make([]byte, 1), 0)
			want = "open " + err.Error()
		}
		for range 2 {
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		}
		expectTold(t, "a body that was closed twice", told, want)
		cancel()
	}
	cut := errors.New("cut")
	mem := storagetest.NewMem()
	mem.Set("key", []byte("content"))
	s, told := meterOf(storagetest.NewFaulty(mem, storagetest.FailAt(1, storagetest.Fault{Cut: &storagetest.Cut{At: 3, Err: cut}})))
	body, _, err := s.Open(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); string(got) != "con" || !errors.Is(err, cut) {
		t.Errorf("read %q, %v", got, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	expectTold(t, "a body that was cut", told, "open cut")
}

// TestMeterAbilities: the decorator can delete if the store can, and lists
// directories as the other decorator does.
func TestMeterAbilities(t *testing.T) {
	mem := storagetest.NewMem()
	if _, ok := storage.WithMeter(mem, nil).(storage.Deleter); !ok {
		t.Error("a Deleter loses its Delete")
	}
	if _, ok := storage.WithMeter(onlyStore{mem}, nil).(storage.Deleter); ok {
		t.Error("a Store that is no Deleter gets a Delete")
	}
	if _, ok := storage.WithMeter(mem, nil).(storage.DirLister); !ok {
		t.Error("the directories of the store below cannot be listed")
	}
}
