package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Programs are the server programs of one installation of PostgreSQL. The paths of
// those that are not there are empty: packages for embedding have the server alone.
type Programs struct {
	Dir       string
	Postgres  string
	Control   string // pg_controldata
	Amcheck   string // pg_amcheck
	Checksums string // pg_checksums
}

// debianDir is where Debian and its kin put the servers of a major.
const debianDir = "/usr/lib/postgresql/%d/bin"

// askWithin bounds what a program may take that only says what it is.
const askWithin = 30 * time.Second

// FindPrograms finds a server of a major version: in dir, if one is given, else where
// Debian puts it, else along path (a list as in PATH). Another major is of no use: it
// does not start on the files. Every error is a matter of configuration.
func FindPrograms(ctx context.Context, dir, path string, major int, as *Account) (Programs, error) {
	if dir != "" {
		p, err := programsIn(ctx, dir, major, as)
		if err != nil {
			return Programs{}, fmt.Errorf("--pg-bindir: %w", err)
		}
		return p, nil
	}
	places := usualPlaces(path, major)
	var seen []error
	for _, place := range places {
		p, err := programsIn(ctx, place, major, as)
		if err == nil {
			return p, nil
		}
		// What nobody may look into is not what was meant.
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			seen = append(seen, err)
		}
	}
	err := fmt.Errorf("no PostgreSQL %d is installed here, neither in %s nor in PATH: name its directory of programs with --pg-bindir", major, places[0])
	if len(seen) > 0 {
		err = fmt.Errorf("%w (found: %w)", err, errors.Join(seen...))
	}
	return Programs{}, err
}

// usualPlaces are the directories to look into, each once. Debian's comes first: it has
// all programs, and PATH perhaps a wrapper that chooses among servers.
func usualPlaces(path string, major int) []string {
	places := []string{fmt.Sprintf(debianDir, major)}
	for _, place := range filepath.SplitList(path) {
		if filepath.IsAbs(place) && !slices.Contains(places, place) {
			places = append(places, place)
		}
	}
	return places
}

// programsIn looks at one directory.
func programsIn(ctx context.Context, dir string, major int, as *Account) (Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Programs{}, err
	}
	p := Programs{Dir: dir, Postgres: filepath.Join(dir, "postgres")}
	real, err := filepath.EvalSymlinks(p.Postgres)
	if err != nil {
		return Programs{}, err
	}
	if filepath.Base(real) == "postgres" { // a link leads to where the others are
		p.Dir, p.Postgres = filepath.Dir(real), real
	}
	got, err := majorOf(ctx, p.Postgres, as)
	if err != nil {
		return Programs{}, err
	}
	if got != major {
		return Programs{}, fmt.Errorf("%s is of PostgreSQL %d, and the backup of %d", p.Postgres, got, major)
	}
	for _, other := range []struct {
		name string
		path *string
	}{{"pg_controldata", &p.Control}, {"pg_amcheck", &p.Amcheck}, {"pg_checksums", &p.Checksums}} {
		file := filepath.Join(p.Dir, other.name)
		if _, err := os.Stat(file); err == nil {
			*other.path = file
		}
	}
	return p, nil
}

// versionLine is what "postgres --version" prints, for releases and what comes before.
var versionLine = pattern(`\(PostgreSQL\) (\d+)`)

func majorOf(ctx context.Context, postgres string, as *Account) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, postgres, "--version")
	cmd.SysProcAttr = as.attributes(false)
	cmd.Dir = "/"
	out, err := cmd.Output()
	if errors.Is(err, os.ErrPermission) && as.other() {
		return 0, fmt.Errorf("%s cannot be run by user %s, as whom the server has to run", postgres, as.Name)
	}
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", postgres, err)
	}
	found := versionLine().FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("%s is not PostgreSQL: it says %.80q", postgres, strings.TrimSpace(string(out)))
	}
	return strconv.Atoi(string(found[1]))
}
