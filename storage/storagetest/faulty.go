package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/walrecv/walrecv/storage"
)

// Op is the kind of a request to a Store.
type Op string

// The kinds of requests.
const (
	OpPut    Op = "put"
	OpOpen   Op = "open"
	OpStat   Op = "stat"
	OpList   Op = "list"
	OpDelete Op = "delete"
	OpCreate Op = "create"
	OpWrite  Op = "write"
	OpCommit Op = "commit"
)

// Request is one call of a method of a Store.
type Request struct {
	N   int    // 1 is the first request of all
	Op  Op     // what is asked for
	Key string // the key, or the prefix of a List
}

// ErrInjected is an error for faults. It is no answer about an object.
var ErrInjected = errors.New("injected fault")

// Fault is what goes wrong with one request; the zero Fault is nothing. At most
// one of Before, After, Hang and HangAfter is set; Cut and Stale go with none
// of them.
type Fault struct {
	Before    error // fails with it, without any effect
	After     error // fails with it, after the effect
	Hang      bool  // waits until the context ends, and fails without any effect
	HangAfter bool  // the same, after the effect

	Cut   *Cut // what is wrong with the body of an Open
	Stale int  // a List leaves out this many of the objects put last
}

// Cut ends a body early. Its Info, and so the size, stays what it was.
type Cut struct {
	At   int64 // bytes that can be read
	Err  error // what then comes: io.EOF, io.ErrUnexpectedEOF or another one
	Hang bool  // waits until the context of the Open ends instead
}

func (f Fault) wrong() bool { return f != Fault{} }

// Faulty is a Store on another one whose requests go wrong at will. It is a
// [storage.Deleter], whose Delete fails if the other Store is none. It is safe
// for concurrent use.
type Faulty struct {
	store storage.Store
	hook  func(Request) Fault

	mu       sync.Mutex
	requests int
	fired    int
	put      []string // keys that were put, in order
}

var (
	_ storage.Store   = (*Faulty)(nil)
	_ storage.Deleter = (*Faulty)(nil)
	_ storage.Creator = (*Faulty)(nil)
)

// NewFaulty returns a Faulty on store. hook is called for every request, by
// several goroutines one after the other, before the request has any effect;
// it must not use the Faulty.
func NewFaulty(store storage.Store, hook func(Request) Fault) *Faulty {
	return &Faulty{store: store, hook: hook}
}

// FailAt returns a hook that lets the k-th request go wrong and no other. A
// sweep runs with k = 1, 2, 3, ... until a run ends with Fired() == 0.
func FailAt(k int, fault Fault) func(Request) Fault {
	return func(r Request) Fault {
		if r.N == k {
			return fault
		}
		return Fault{}
	}
}

// Requests returns how many requests there were.
func (f *Faulty) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// Fired returns how many of them went wrong.
func (f *Faulty) Fired() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// Put implements [storage.Store].
func (f *Faulty) Put(ctx context.Context, key string, src storage.Source) error {
	_, err := f.do(ctx, OpPut, key, func() error {
		err := f.store.Put(ctx, key, src)
		if err == nil {
			f.putDone(key)
		}
		return err
	})
	return err
}

// putDone notes that an object was put.
func (f *Faulty) putDone(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put = append(f.put, key)
}

// Open implements [storage.Store].
func (f *Faulty) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	var body io.ReadCloser
	var info storage.Info
	fault, err := f.do(ctx, OpOpen, key, func() (err error) {
		body, info, err = f.store.Open(ctx, key)
		return err
	})
	if err != nil {
		if body != nil {
			err = errors.Join(err, body.Close())
		}
		return nil, storage.Info{}, err
	}
	if fault.Cut != nil {
		body = newCutBody(ctx, body, *fault.Cut)
	}
	return body, info, nil
}

// Stat implements [storage.Store].
func (f *Faulty) Stat(ctx context.Context, key string) (storage.Info, error) {
	var info storage.Info
	_, err := f.do(ctx, OpStat, key, func() (err error) {
		info, err = f.store.Stat(ctx, key)
		return err
	})
	if err != nil {
		return storage.Info{}, err
	}
	return info, nil
}

// List implements [storage.Store]. A fault after the effect comes after fn was
// called for every object.
func (f *Faulty) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	fault := f.begin(OpList, prefix)
	return f.apply(ctx, fault, func() error {
		hidden := f.last(fault.Stale)
		return f.store.List(ctx, prefix, func(info storage.Info) error {
			if hidden[info.Key] {
				return nil
			}
			return fn(info)
		})
	})
}

// Delete implements [storage.Deleter].
func (f *Faulty) Delete(ctx context.Context, key string) error {
	_, err := f.do(ctx, OpDelete, key, func() error {
		deleter, ok := f.store.(storage.Deleter)
		if !ok {
			return fmt.Errorf("delete %s: %T cannot delete", key, f.store)
		}
		return deleter.Delete(ctx, key)
	})
	return err
}

// Confirm implements [storage.Confirmer], whether or not the other Store does.
// Nothing goes wrong with it.
func (f *Faulty) Confirm(ctx context.Context, key string) error {
	return storage.Confirm(ctx, f.store, key)
}

// do runs one request with what goes wrong with it.
func (f *Faulty) do(ctx context.Context, op Op, key string, effect func() error) (Fault, error) {
	fault := f.begin(op, key)
	return fault, f.apply(ctx, fault, effect)
}

func (f *Faulty) begin(op Op, key string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	fault := f.hook(Request{N: f.requests, Op: op, Key: key})
	if fault.wrong() {
		f.fired++
	}
	return fault
}

func (f *Faulty) apply(ctx context.Context, fault Fault, effect func() error) error {
	switch {
	case fault.Before != nil:
		return fault.Before
	case fault.Hang:
		<-ctx.Done()
		return ctx.Err()
	}
	err := effect()
	switch {
	case fault.After != nil:
		return fault.After
	case fault.HangAfter:
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// last returns the n keys that were put last.
func (f *Faulty) last(n int) map[string]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := map[string]bool{}
	for _, key := range f.put[len(f.put)-min(n, len(f.put)):] {
		keys[key] = true
	}
	return keys
}
