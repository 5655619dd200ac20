package local

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

var _ storage.DirLister = (*Store)(nil)

// ListDirs implements [storage.DirLister]. It reads one directory.
func (s *Store) ListDirs(ctx context.Context, prefix string, fn func(name string) error) error {
	if err := storage.CheckPrefix(prefix); err != nil {
		return err
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("storage prefix %q does not end with a slash", prefix)
	}
	entries, err := s.readDir(ctx, prefix, func(name string) bool { return !foreign(prefix, name) })
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e vfs.DirEntry) bool { return !e.Dir })
	slices.SortFunc(entries, func(a, b vfs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		if err := fn(e.Name); err != nil {
			return err
		}
	}
	return nil
}
