package extract

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/walrecv/walrecv/internal/backup"
)

// plan says which directories there will be. It touches nothing.
func (x *extraction) plan() error {
	if !filepath.IsAbs(x.options.Dir) {
		return fmt.Errorf("%q is not an absolute path", x.options.Dir)
	}
	x.spaces = []*space{{path: filepath.Clean(x.options.Dir), owner: x.options.Owner}}
	used := map[string]bool{}
	for _, t := range x.backup.Tablespaces {
		if t.OID == 0 {
			x.spaces[0].tablespace = t
			continue
		}
		s := &space{tablespace: t, oid: t.OID, prefix: fmt.Sprintf("%s/%d/", linkDir, t.OID), owner: x.options.Owner}
		place := t.Location
		if to, mapped := x.options.Mapping[filepath.Clean(place)]; mapped {
			used[filepath.Clean(place)] = true
			if filepath.IsAbs(place) {
				place = to
			}
		}
		switch {
		case filepath.IsAbs(place):
			s.path = filepath.Clean(place)
		case path.Clean(s.prefix) == place:
			// allow_in_place_tablespaces, which is for tests of servers.
			s.inPlace, s.path = true, filepath.Join(x.spaces[0].path, place)
		default:
			return x.damaged("tablespace %d is at %q", t.OID, place)
		}
		x.spaces = append(x.spaces, s)
	}
	for old := range x.options.Mapping {
		if !used[old] {
			return &MappingError{Old: old, Locations: locations(x.backup.Tablespaces)}
		}
	}
	return x.apart()
}

// locations lists where tablespaces can be mapped from.
func locations(all []backup.Tablespace) []string {
	var paths []string
	for _, t := range all {
		if filepath.IsAbs(t.Location) {
			paths = append(paths, t.Location)
		}
	}
	slices.Sort(paths)
	return paths
}

// moved tells whether a tablespace is restored to another place.
func (x *extraction) moved() bool {
	return slices.ContainsFunc(x.spaces[1:], func(s *space) bool { return !s.inPlace && s.path != s.tablespace.Location })
}

// claim makes all directories, or finds them empty.
func (x *extraction) claim() error {
	data := x.spaces[0]
	for i, s := range x.spaces {
		if s.inPlace {
			if err := s.claimIn(data); err != nil {
				return err
			}
			continue
		}
		err := s.open()
		if err == nil {
			err = s.distinct(x.spaces[:i])
		}
		if err == nil {
			err = s.claim()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// distinct looks that the path does not lead to the directory of another space.
func (s *space) distinct(others []*space) error {
	for _, other := range others {
		if !other.inPlace && os.SameFile(s.before, other.before) {
			return &PlaceError{fmt.Sprintf("%s and %s are one directory: each tablespace needs its own", other.path, s.path)}
		}
	}
	return nil
}

// claimIn makes the directory of a tablespace in the data directory.
func (s *space) claimIn(data *space) error {
	s.dirs, s.top = map[string]bool{".": true}, map[string]bool{}
	name := path.Clean(s.prefix)
	err := data.mkdir(name, dirMode)
	if err == nil {
		s.root, err = data.root.OpenRoot(name)
	}
	return err
}

// undo removes what was made, and says so if it could not.
func (x *extraction) undo(why error) error {
	var failed error
	for _, s := range slices.Backward(x.spaces) {
		failed = errors.Join(failed, s.undo())
	}
	if failed == nil {
		return why
	}
	return fmt.Errorf("%w; and what was restored so far could not be removed: %w", why, failed)
}

func (x *extraction) release() {
	for _, s := range x.spaces {
		s.release()
	}
}
