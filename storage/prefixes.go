package storage

import (
	"context"
	"fmt"
	"strings"
)

// DirLister is the optional ability of a Store to tell which directories there
// are without listing everything that is in them. Use [ListDirs], which works
// with every Store.
type DirLister interface {
	// ListDirs calls fn with the name, without slashes, of every directory
	// directly below prefix, which is empty or ends with a slash, in the order
	// of the keys below them. No name comes twice. A directory that holds no
	// object may be named or not. An error of fn ends the listing and is
	// returned as it is.
	ListDirs(ctx context.Context, prefix string, fn func(name string) error) error
}

// ListDirs calls fn with the name of every directory directly below prefix, as
// [DirLister] says. A Store without that ability is listed whole, below prefix.
func ListDirs(ctx context.Context, s Store, prefix string, fn func(name string) error) error {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("storage prefix %q does not end with a slash", clip(prefix))
	}
	if lister, ok := s.(DirLister); ok {
		return lister.ListDirs(ctx, prefix, fn)
	}
	last := ""
	return s.List(ctx, prefix, func(info Info) error {
		name, _, ok := strings.Cut(strings.TrimPrefix(info.Key, prefix), "/")
		if !ok || name == last {
			return nil
		}
		last = name
		return fn(name)
	})
}

// ListDirs implements [DirLister], whether or not the Store below does. fn is
// called in the caller's goroutine, after the Store below has told all names.
func (d deadline) ListDirs(ctx context.Context, prefix string, fn func(name string) error) error {
	names, err := wait(ctx, "list "+prefix, func() ([]string, error) {
		var names []string
		err := ListDirs(ctx, d.store, prefix, func(name string) error {
			names = append(names, name)
			return nil
		})
		return names, err
	}, nil)
	for _, name := range names {
		if err := fn(name); err != nil {
			return err
		}
	}
	return err
}
