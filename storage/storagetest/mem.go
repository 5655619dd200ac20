package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/walrecv/walrecv/storage"
)

// Mem is a Store in memory. It is a [storage.Deleter], and it refuses a key
// that is a directory of another one, as file systems do. It is safe for
// concurrent use.
type Mem struct {
	// Sequential makes bodies that do not implement [io.ReaderAt]. To be set
	// before the first use.
	Sequential bool

	// Now is the clock of the store; nil: it has none, and does not know when an
	// object was written. To be set before the first use.
	Now func() time.Time

	mu      sync.Mutex
	objects map[string]memObject
}

type memObject struct {
	data     []byte // never changed
	modified time.Time
}

var (
	_ storage.Store   = (*Mem)(nil)
	_ storage.Deleter = (*Mem)(nil)
	_ storage.Creator = (*Mem)(nil)
)

// NewMem returns an empty Mem.
func NewMem() *Mem { return &Mem{objects: map[string]memObject{}} }

// Put implements [storage.Store].
func (m *Mem) Put(ctx context.Context, key string, src storage.Source) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	var content bytes.Buffer
	if err := storage.Copy(ctx, &content, src); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return m.add(key, content.Bytes())
}

// add makes an object, which then has the bytes.
func (m *Mem) add(key string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.objects[key]; taken {
		return &fs.PathError{Op: "put", Path: key, Err: fs.ErrExist}
	}
	for other := range m.objects {
		if strings.HasPrefix(other, key+"/") || strings.HasPrefix(key, other+"/") {
			return fmt.Errorf("put %s: one key would be a directory of the other: %s", key, other)
		}
	}
	m.objects[key] = memObject{data, m.now()}
	return nil
}

// Open implements [storage.Store].
func (m *Mem) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	if err := check(ctx, key); err != nil {
		return nil, storage.Info{}, err
	}
	o, ok := m.get(key)
	if !ok {
		return nil, storage.Info{}, &fs.PathError{Op: "open", Path: key, Err: fs.ErrNotExist}
	}
	info := o.info(key)
	body := memBody{ctx, bytes.NewReader(o.data)}
	if m.Sequential {
		return struct{ io.ReadCloser }{body}, info, nil
	}
	return body, info, nil
}

// Stat implements [storage.Store].
func (m *Mem) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := check(ctx, key); err != nil {
		return storage.Info{}, err
	}
	o, ok := m.get(key)
	if !ok {
		return storage.Info{}, &fs.PathError{Op: "stat", Path: key, Err: fs.ErrNotExist}
	}
	return o.info(key), nil
}

// List implements [storage.Store]. It lists what there was when it was called.
func (m *Mem) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	if err := storage.CheckPrefix(prefix); err != nil {
		return err
	}
	for _, info := range m.infos(prefix) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete implements [storage.Deleter].
func (m *Mem) Delete(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

// Get returns the bytes of an object. They must not be changed.
func (m *Mem) Get(key string) (data []byte, ok bool) {
	o, ok := m.get(key)
	return o.data, ok
}

func (m *Mem) get(key string) (o memObject, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok = m.objects[key]
	return o, ok
}

func (o memObject) info(key string) storage.Info {
	return storage.Info{Key: key, Size: int64(len(o.data)), Modified: o.modified}
}

func (m *Mem) now() time.Time {
	if m.Now == nil {
		return time.Time{}
	}
	return m.Now().UTC()
}

// Set makes or overwrites an object with a copy of data, which no Put could:
// it is how tests damage one.
func (m *Mem) Set(key string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = memObject{bytes.Clone(data), m.now()}
}

// Keys returns all keys in lexical order.
func (m *Mem) Keys() []string {
	var keys []string
	for _, info := range m.infos("") {
		keys = append(keys, info.Key)
	}
	return keys
}

func (m *Mem) infos(prefix string) []storage.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	var infos []storage.Info
	for key, o := range m.objects {
		if strings.HasPrefix(key, prefix) {
			infos = append(infos, o.info(key))
		}
	}
	slices.SortFunc(infos, func(a, b storage.Info) int { return strings.Compare(a.Key, b.Key) })
	return infos
}

func check(ctx context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// memBody is the body of an object.
type memBody struct {
	ctx context.Context
	r   *bytes.Reader
}

func (b memBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}

func (b memBody) ReadAt(p []byte, off int64) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.ReadAt(p, off)
}

func (b memBody) Close() error { return nil }
