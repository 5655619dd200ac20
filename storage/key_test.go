package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
)

func TestCheckKey(t *testing.T) {
	long := strings.Repeat("x", MaxElement)
	full := strings.Repeat(long+"/", 3) + long[1:] + "/x" // of MaxKey bytes
	if len(full) != MaxKey {
		t.Fatalf("the longest key has %d bytes", len(full))
	}
	for _, key := range []string{
		"a", "...", "..a", ".a", "a..", "-", "=", "lost+found", "a/b/c", "A-z0_9.=+/x",
		long, full,
	} {
		if err := CheckKey(key); err != nil {
			t.Errorf("CheckKey(%.40q, %d bytes) = %v", key, len(key), err)
		}
	}
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/.", "a/..", "a/./b", "a/../b",
		"a b", "a\x00", "a\n", "ä", "a\\b", "a*", "a:b", "a~", "a,b", "a%2Fb", "\xff",
		long + "x", "a/" + long + "x/b", full + "x", strings.Repeat("a/", 512) + "a",
	} {
		if err := CheckKey(key); err == nil {
			t.Errorf("CheckKey(%.40q, %d bytes) accepts it", key, len(key))
		} else if len(err.Error()) > 300 {
			t.Errorf("CheckKey(%.40q) repeats all of it", key)
		}
	}
}

func TestCheckPrefix(t *testing.T) {
	for _, prefix := range []string{"", ".", "..", "a", "a/", "a/.", "a/..", "a/b", strings.Repeat("x", MaxElement)} {
		if err := CheckPrefix(prefix); err != nil {
			t.Errorf("CheckPrefix(%q) = %v", prefix, err)
		}
	}
	for _, prefix := range []string{"/", "/a", "a//", "./", "../", "../a", "a/../b", "a b", "ä", strings.Repeat("x", MaxElement+1)} {
		if CheckPrefix(prefix) == nil {
			t.Errorf("CheckPrefix(%.40q) accepts it", prefix)
		}
	}
}

func TestBytesSource(t *testing.T) {
	src := BytesSource([]byte("content"))
	if src.Size() != 7 {
		t.Errorf("size %d, want 7", src.Size())
	}
	for range 2 {
		r, err := src.Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "content" {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := r.Seek(3, io.SeekStart); err != nil {
			t.Error(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "tent" {
			t.Errorf("read %q, %v after seeking", got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnknownHidesAnswers(t *testing.T) {
	for _, inner := range []error{fs.ErrNotExist, fs.ErrExist, fmt.Errorf("x: %w", fs.ErrNotExist)} {
		err := Unknown("put", inner)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			t.Errorf("%v is still an answer about an object", err)
		}
		if !strings.Contains(err.Error(), inner.Error()) {
			t.Errorf("%v does not say why", err)
		}
	}
	if err := Unknown("put", io.ErrClosedPipe); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v does not wrap its reason", err)
	}
}
