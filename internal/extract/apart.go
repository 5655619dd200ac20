package extract

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/walrecv/walrecv/internal/backup"
)

// Check finds what a [Run] would refuse before it makes anything. It only looks, so that
// what it found can be another way when Run comes.
func Check(b *backup.Backup, o Options) error {
	x := &extraction{backup: b, options: o}
	if err := x.plan(); err != nil {
		return err
	}
	for _, s := range x.spaces {
		if err := s.vacant(); err != nil {
			return err
		}
	}
	return nil
}

// vacant looks whether the directory is empty, or not there.
func (s *space) vacant() error {
	if s.inPlace {
		return nil
	}
	d, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	switch names, err := d.Readdirnames(1); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return &NotEmptyError{Dir: s.path, Example: names[0]}
	}
}

// apart refuses directories of which one lies in another: what takes stock of a data
// directory would find files that belong to nothing. None may lie in Options.Apart,
// whose owner would find strange files there.
func (x *extraction) apart() error {
	var taken, apart []string
	for _, dir := range x.options.Apart {
		apart = append(apart, resolved(dir))
	}
	for _, s := range x.spaces {
		if s.inPlace {
			continue
		}
		place := resolved(s.path)
		for i, other := range taken {
			switch {
			case place == other:
				return &PlaceError{fmt.Sprintf("%s and %s are one directory: each tablespace needs its own", taken[i], s.path)}
			case within(place, other), within(other, place):
				return &PlaceError{fmt.Sprintf("of %s and %s one lies in the other: the data directory and each tablespace need directories apart from each other", taken[i], s.path)}
			}
		}
		for _, dir := range apart {
			if place == dir || within(place, dir) {
				return &PlaceError{fmt.Sprintf("%s lies in the archive, %s: use a directory outside of it", s.path, dir)}
			}
		}
		taken = append(taken, place)
	}
	return nil
}

// within tells whether a directory lies below another one.
func within(dir, above string) bool {
	rel, err := filepath.Rel(above, dir)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

// resolved is where a path leads, as far as it exists.
func resolved(path string) string {
	for dir, rest := path, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		if dir == filepath.Dir(dir) {
			return path
		}
	}
}
