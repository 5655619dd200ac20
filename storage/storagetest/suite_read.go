package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/walrecv/walrecv/storage"
)

func testAbsent(t *testing.T, s storage.Store) {
	absent := []string{"absent", "no/such/directory", "there/key2", "there/ke", "there/k", "there/key.zst", "there", "the", "Zhere/key"}
	for _, key := range absent {
		expectAbsent(t, s, key) // in an empty store
	}
	if infos := list(t, s, ""); len(infos) > 0 {
		t.Errorf("an empty store lists %v", infos)
	}
	put(t, s, "there/key", []byte("x"))
	for _, key := range absent {
		expectAbsent(t, s, key)
	}
	for _, prefix := range []string{"there/key2", "there/l", "a", "there/none/", "nowhere/", "no/where/at/all/", "z"} {
		if infos := list(t, s, prefix); len(infos) > 0 {
			t.Errorf("list %q: %v", prefix, infos)
		}
	}
}

func testBody(t *testing.T, s storage.Store) {
	for _, size := range []int{0, 1, 1000} {
		data := content(size, 5)
		key := fmt.Sprintf("body-%d", size)
		put(t, s, key, data)
		body, _, err := s.Open(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(body, data); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes: a read at the end gives %d, %v", size, n, err)
		}
		if err := body.Close(); err != nil {
			t.Errorf("%d bytes: close: %v", size, err)
		}
	}
	large := content(1_500_000, 6)
	put(t, s, "large", large)
	one, two := open(t, s, "large"), open(t, s, "large")
	expectReadAt(t, one, large)
	for _, body := range []io.Reader{iotest.HalfReader(one), two} {
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, large) {
			t.Errorf("two bodies at once: %d bytes, %v", len(got), err)
		}
	}
}

func open(t *testing.T, s storage.Store, key string) io.ReadCloser {
	t.Helper()
	body, _, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { body.Close() })
	return body
}

// expectReadAt reads anywhere in a body, if that can be done.
func expectReadAt(t *testing.T, body io.Reader, data []byte) {
	t.Helper()
	at, ok := body.(io.ReaderAt)
	if !ok {
		return
	}
	size := int64(len(data))
	for _, r := range [][2]int64{
		{0, 0},
		{0, 1},
		{0, size},
		{size - 4096, 4096},
		{size - 4096, 4097},
		{size - 1, 1},
		{1, 300_000},
		{size, 1},
		{size + 1, 1},
		{1000, size},
	} {
		got := make([]byte, r[1])
		n, err := at.ReadAt(got, r[0])
		want := data[min(r[0], size):min(r[0]+r[1], size)]
		if !bytes.Equal(got[:n], want) || (n < len(got)) != (err == io.EOF) || err != nil && err != io.EOF {
			t.Errorf("ReadAt of %d bytes from %d: %d bytes, %v; want %d", r[1], r[0], n, err, len(want))
		}
	}
	if _, err := at.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("ReadAt of a negative offset: %v", err)
	}
}

// testBodyContext ends the context of an Open in the middle of the body. Reads
// may go on or fail, but not end early as if that were all.
func testBodyContext(t *testing.T, s storage.Store) {
	data := content(800_000, 7)
	put(t, s, "body", data)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, _, err := s.Open(ctx, "body")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(body, head); err != nil {
		t.Fatal(err)
	}
	cancel()
	rest, err := io.ReadAll(body)
	got := append(head, rest...)
	switch {
	case err == nil && !bytes.Equal(got, data):
		t.Errorf("the body ends after %d of %d bytes without an error", len(got), len(data))
	case err != nil && !errors.Is(err, context.Canceled):
		t.Errorf("read with a cancelled context: %v", err)
	case !bytes.HasPrefix(data, got):
		t.Error("the body gives wrong bytes")
	}
}

// testCancelled makes every call with a context that has ended.
func testCancelled(t *testing.T, s storage.Store) {
	put(t, s, "there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(s) {
		for _, key := range []string{"there", "absent"} {
			if err := call(ctx, key); !errors.Is(err, context.Canceled) || isAnswer(err) {
				t.Errorf("%s %s: %v, want context.Canceled", name, key, err)
			}
		}
	}
	err := s.List(ctx, "", func(info storage.Info) error {
		t.Errorf("list calls fn with %v", info)
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v, want context.Canceled", err)
	}
	expect(t, s, "there", []byte("x"))
	expectAbsent(t, s, "absent")
}

func testOddKeys(t *testing.T, s storage.Store) {
	long := strings.Repeat("x", storage.MaxElement)
	full := strings.Repeat(strings.Repeat("w", storage.MaxElement)+"/", 3)
	full += strings.Repeat("y", storage.MaxKey-len(full)-2) + "/z"
	for i, key := range []string{
		"...", "..a", ".a", "a..", "-", "=", "+", "_", "A-z0_9.=+/x", ".hidden/.x", "-r/-f",
		"NUL", "x.tmp", ".tmp-x", "upper", "UPPER", long, full,
	} {
		data := content(i, 8)
		put(t, s, key, data)
		expect(t, s, key, data)
	}
}

func testRefusedKeys(t *testing.T, s storage.Store) {
	put(t, s, "a/b", []byte("x"))
	for _, key := range []string{
		"", "/", "/a/b", "a/b/", "a//b", ".", "..", "./a/b", "../a", "a/.", "a/..", "a/./b", "a/../a/b",
		"a/b ", "a/\x00b", "a/b\n", "a/ä", `a\b`, "a/*", "a:b", "~", "a%2Fb", "\xff",
		strings.Repeat("x", storage.MaxElement+1), strings.Repeat("a/", storage.MaxKey/2) + "a",
	} {
		for name, call := range calls(s) {
			if err := call(t.Context(), key); err == nil || isAnswer(err) {
				t.Errorf("%s of the key %.40q: %v", name, key, err)
			}
		}
	}
	for _, prefix := range []string{"/", "/a", "a//", "./", "../", "a/../a", "a ", "ä"} {
		err := s.List(t.Context(), prefix, func(info storage.Info) error {
			t.Errorf("list of the prefix %q: shows %v", prefix, info)
			return nil
		})
		if err == nil || isAnswer(err) {
			t.Errorf("list of the prefix %q: %v", prefix, err)
		}
	}
	if infos := list(t, s, ""); len(infos) != 1 {
		t.Errorf("refused keys leave %v", infos)
	}
}

// testKeyAndDirectory uses keys that are directories of other ones. A store may
// refuse them, but not with an answer about an object.
func testKeyAndDirectory(t *testing.T, s storage.Store) {
	put(t, s, "a/b", []byte("x"))
	expectAbsent(t, s, "a")
	for _, key := range []string{"a", "a/b/c"} {
		if err := s.Put(t.Context(), key, storage.BytesSource(nil)); isAnswer(err) {
			t.Errorf("put %s beside a/b: %v", key, err)
		}
		expect(t, s, "a/b", []byte("x"))
	}
}

// testEnds reads the beginning and the end of objects that are smaller and larger
// than what is wanted.
func testEnds(t *testing.T, s storage.Store) {
	for _, size := range []int{0, 1, 99, 100, 101, 300_000} {
		data := content(size, 9)
		key := fmt.Sprintf("ends/%d", size)
		put(t, s, key, data)
		want := storage.Info{Key: key, Size: int64(size)}
		for _, n := range []int{1, 100, 70_000} {
			head, info, err := storage.ReadHead(t.Context(), s, key, int64(n))
			if !bytes.Equal(head, data[:min(n, size)]) || !same(info, want) || err != nil {
				t.Errorf("the first %d of %d bytes: %d, %+v, %v", n, size, len(head), info, err)
			}
			tail, info, err := storage.ReadTail(t.Context(), s, key, int64(n))
			if !bytes.Equal(tail, data[size-min(n, size):]) || !same(info, want) || err != nil {
				t.Errorf("the last %d of %d bytes: %d, %+v, %v", n, size, len(tail), info, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, read := range map[string]func(context.Context, storage.Store, string, int64) ([]byte, storage.Info, error){
		"head": storage.ReadHead, "tail": storage.ReadTail,
	} {
		if _, _, err := read(t.Context(), s, "ends/none", 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of an absent object: %v", name, err)
		}
		if _, _, err := read(t.Context(), s, "ends//", 10); err == nil || isAnswer(err) {
			t.Errorf("%s of a refused key: %v", name, err)
		}
		if _, _, err := read(ctx, s, "ends/100", 10); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v", name, err)
		}
	}
}
