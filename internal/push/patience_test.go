package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

const pidFile = "4711\n/data\n1790000000\n5432\n/tmp\nlocalhost\n 12345 6\n"

// A store that refuses or hangs is given up after a minute, at once while the server
// shuts down, and never before another try could have helped.
func TestOutage(t *testing.T) {
	refuses, hangs := storagetest.Fault{Before: storagetest.ErrInjected}, storagetest.Fault{Hang: true}
	for _, tt := range []struct {
		name   string
		fault  storagetest.Fault
		status string
		least  time.Duration
		most   time.Duration
	}{
		{"refuses", refuses, "ready   \n", 60 * time.Second, 61 * time.Second},
		{"hangs", hangs, "ready   \n", 60 * time.Second, 61 * time.Second},
		{"refuses a server that shuts down", refuses, "stopping\n", 2 * time.Second, 3 * time.Second},
		{"hangs while the server shuts down", hangs, "stopping\n", 2 * time.Second, 3 * time.Second},
	} {
		for _, op := range []storagetest.Op{storagetest.OpOpen, storagetest.OpPut} {
			t.Run(fmt.Sprint(tt.name, " ", op), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					mem := storagetest.NewMem()
					fired := 0
					s := newServer(t, storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
						if r.Op != op {
							return storagetest.Fault{}
						}
						fired++
						return tt.fault
					}), fakepg.Config{})
					s.write("/data/postmaster.pid", []byte(pidFile+tt.status))
					begin := time.Now()
					err := s.push(s.has(1, 5))
					if took := time.Since(begin); err == nil || took < tt.least || took > tt.most {
						t.Errorf("%v after %v", err, took)
					}
					if !tt.fault.Hang && (!errors.Is(err, storagetest.ErrInjected) || fired < 3) {
						t.Errorf("%v after %d tries", err, fired)
					}
				})
			})
		}
	}
}

// What passes by itself is waited out.
func TestOutageThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storagetest.NewMem()
		begin := time.Now()
		s := newServer(t, storagetest.NewFaulty(mem, func(storagetest.Request) storagetest.Fault {
			if time.Since(begin) < 50*time.Second {
				return storagetest.Fault{Before: storagetest.ErrInjected}
			}
			return storagetest.Fault{}
		}), fakepg.Config{})
		s.pushes(s.has(1, 5))
	})
}

// A large file on a slow line is no outage: it gets on. A try that begins anew each
// time does not.
func TestSlowLine(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mem := storagetest.NewMem()
			s := newServer(t, &slowStore{Store: mem, pause: 20 * time.Second, stuck: stuck}, fakepg.Config{})
			begin := time.Now()
			err := s.push(s.has(1, 5))
			took := time.Since(begin)
			if !stuck && (err != nil || took < 80*time.Second) {
				t.Errorf("on a slow line: %v after %v", err, took)
			}
			if stuck && (err == nil || took > 81*time.Second) {
				t.Errorf("on a line that breaks: %v after %v", err, took)
			}
		})
	}
}

// slowStore pauses before every piece of a Put that it reads; a stuck one fails with
// the second piece, nine times.
type slowStore struct {
	storage.Store
	pause time.Duration
	stuck bool
	tries int
}

func (s *slowStore) Put(ctx context.Context, key string, src storage.Source) error {
	r, err := src.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	piece := make([]byte, max(1, src.Size()/4))
	if !strings.HasSuffix(key, ".zst") {
		return s.Store.Put(ctx, key, src)
	}
	s.tries++
	for n := 1; ; n++ {
		if !pause(ctx, s.pause) {
			return ctx.Err()
		}
		if s.stuck && n == 2 && s.tries < 10 {
			return storagetest.ErrInjected
		}
		if got, err := r.Read(piece); got == 0 || err != nil {
			break
		}
	}
	return s.Store.Put(ctx, key, src)
}

// Every request of a push goes wrong once, in every way: what is confirmed is there,
// and nothing is there that is something else.
func TestStoreSweep(t *testing.T) {
	faults := map[string]storagetest.Fault{
		"before": {Before: storagetest.ErrInjected}, "after": {After: storagetest.ErrInjected},
		"hang": {Hang: true}, "hang after": {HangAfter: true},
		"cut": {Cut: &storagetest.Cut{At: 100, Err: fs.ErrClosed}},
	}
	for name, fault := range faults {
		for k := 1; ; k++ {
			fired := 0
			synctest.Test(t, func(t *testing.T) { fired = sweepOnce(t, k, fault, name) })
			if fired == 0 {
				break
			}
		}
	}
}

func sweepOnce(t *testing.T, k int, fault storagetest.Fault, name string) int {
	mem := storagetest.NewMem()
	faulty := storagetest.NewFaulty(mem, storagetest.FailAt(k, fault))
	s := newServer(t, faulty, fakepg.Config{Timeline: 2, History: []fakepg.Fork{{Timeline: 1, End: 5*mib + 8192}}})
	s.o.Mountable = true
	s.hasHistory(2) // is archived first
	file := s.has(2, 5)
	if err := s.push(file); err != nil {
		if err = s.push(file); err != nil { // the server asks again
			t.Errorf("request %d, %s: %v", k, name, err)
		}
	}
	if !bytes.Equal(archived(t, mem, 2, 5), s.wal(2, 5)) {
		t.Errorf("request %d, %s: another content", k, name)
	}
	if keys := keysBelow(mem, ""); len(keys) != 3 {
		t.Errorf("request %d, %s: the archive has %v", k, name, keys)
	}
	return faulty.Fired()
}

// Every operation on the disk of this host fails once. Nothing is confirmed that is
// not archived, nothing is called another branch, and nothing stays but the note.
func TestDiskSweep(t *testing.T) {
	for _, tail := range []bool{false, true} {
		for k := 0; ; k++ {
			mem := storagetest.NewMem()
			s := newServer(t, mem, fakepg.Config{})
			file := s.hasWhole()
			if tail {
				s.pushes(file)
				s.hasTail(at(20, 0), zeros)
			}
			fired := false
			s.o.FS = vfs.NewFault(s.fsys, func(op vfs.Op) error {
				if op.Index != k {
					return nil
				}
				fired = true
				return fs.ErrInvalid
			})
			err := s.push(file)
			if !fired {
				break
			}
			if err == nil && !bytes.Equal(archived(t, mem, 1, 5), s.whole(5)) {
				t.Fatalf("operation %d: confirmed, and not archived", k)
			}
			if errors.Is(err, segment.ErrBranch) {
				t.Errorf("operation %d: %v", k, err)
			}
			s.o.FS = s.fsys
			s.pushes(file)
		}
	}
}
