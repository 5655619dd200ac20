package storage

import (
	"context"
	"strings"
)

// FromLister is the optional ability of a Store to begin a listing in the middle
// without going through what lies before. Use [ListFrom], which works with every
// Store.
type FromLister interface {
	// ListFrom is List without the keys that come before from, which need not be
	// one of them, nor begin with prefix.
	ListFrom(ctx context.Context, prefix, from string, fn func(Info) error) error
}

// ListFrom calls fn for every object whose key begins with prefix and is from or
// comes after it, as [FromLister] says. A Store without that ability is listed
// whole, below prefix.
func ListFrom(ctx context.Context, s Store, prefix, from string, fn func(Info) error) error {
	if lister, ok := s.(FromLister); ok {
		return lister.ListFrom(ctx, prefix, from, fn)
	}
	return s.List(ctx, prefix, func(info Info) error {
		if strings.Compare(info.Key, from) < 0 {
			return nil
		}
		return fn(info)
	})
}

// ListFrom implements [FromLister], whether or not the Store below does.
func (d deadline) ListFrom(ctx context.Context, prefix, from string, fn func(Info) error) error {
	return d.list(ctx, "list "+prefix, fn, func(fn func(Info) error) error {
		return ListFrom(ctx, d.store, prefix, from, fn)
	})
}

// ListFrom implements [FromLister], whether or not the Store below does.
func (m metered) ListFrom(ctx context.Context, prefix, from string, fn func(Info) error) error {
	return meterList(m.tell, fn, func(fn func(Info) error) error { return ListFrom(ctx, m.store, prefix, from, fn) })
}
