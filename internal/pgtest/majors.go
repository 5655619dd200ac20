package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// defaultMajors are the versions that every change is tested against.
var defaultMajors = []int{15, 18}

// Versions returns the PostgreSQL majors to test against, oldest first: 15 and
// 18, or what WALRECV_TEST_MAJORS lists. The test ends, with the command that
// helps, if one of them is not there.
func Versions(t testing.TB) []int {
	t.Helper()
	majors, err := wantedMajors(os.Getenv("WALRECV_TEST_MAJORS"))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	for _, major := range majors {
		BinDir(t, major)
	}
	return majors
}

func wantedMajors(list string) ([]int, error) {
	words := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	if len(words) == 0 {
		return defaultMajors, nil
	}
	var majors []int
	for _, word := range words {
		major, err := strconv.Atoi(word)
		if err != nil || major < 13 {
			return nil, fmt.Errorf("WALRECV_TEST_MAJORS: %q is not a PostgreSQL major from 13 on", word)
		}
		majors = append(majors, major)
	}
	slices.Sort(majors)
	return slices.Compact(majors), nil
}

// Version is the major for a test that needs but one server: the oldest of
// Versions.
func Version(t testing.TB) int {
	t.Helper()
	return Versions(t)[0]
}

// Only skips a test that cannot be on this major, and tells why. Nothing else is a
// reason to skip one.
func Only(t testing.TB, major int, can bool, why string) {
	t.Helper()
	if !can {
		t.Skipf("not on PostgreSQL %d: %s", major, why)
	}
}

// BinDir returns the directory with the server programs of a major, in a place
// that the user of the servers can reach.
func BinDir(t testing.TB, major int) string {
	t.Helper()
	dir, err := binDir(currentRun(t), major)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return dir
}

var reachableDirs sync.Map // major -> func() (string, error)

func binDir(r *run, major int) (string, error) {
	once, _ := reachableDirs.LoadOrStore(major, sync.OnceValues(func() (string, error) {
		dir, err := findBinDir(major)
		if err != nil || r.reaches(filepath.Join(dir, "postgres")) {
			return dir, err
		}
		return r.copyServer(dir, major)
	}))
	return once.(func() (string, error))()
}

// findBinDir looks where packages and tools/need put servers.
func findBinDir(major int) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	name := strconv.Itoa(major)
	variable := "WALRECV_TEST_PG" + name
	places := []string{
		os.Getenv(variable),
		filepath.Join("/usr/lib/postgresql", name, "bin"),
		filepath.Join(root, "build", "pg", name, "bin"),
	}
	if places[0] != "" {
		places = places[:1]
	}
	for _, dir := range places {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no PostgreSQL %d server; get it with: %s pg%d (or name its bin directory in %s)",
		major, filepath.Join(root, "tools", "need"), major, variable)
}

// copyServer copies an installed server to where its user can reach it: the
// tree of the sources may lie in a home directory closed to others.
func (r *run) copyServer(bin string, major int) (string, error) {
	bin, err := filepath.EvalSymlinks(bin)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(r.dir, "pg"+strconv.Itoa(major))
	if err := r.copyTree(filepath.Dir(bin), dir, nil); err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(bin)), nil
}

// Client returns the path of a PostgreSQL client program, such as pgbench or
// psql. It comes from the oldest installed server package that has it, 15 on
// the systems the tests are made for, and need not be of a server's own major.
func Client(t testing.TB, name string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join("/usr/lib/postgresql/*/bin", name))
	if len(found) > 0 {
		slices.Sort(found)
		return found[0]
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	t.Fatalf("pgtest: no %s; get it with: %s pg15", name, filepath.Join(ModuleRoot(t), "tools", "need"))
	return ""
}

// ModuleRoot returns the directory of go.mod.
func ModuleRoot(t testing.TB) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return root
}

// moduleRoot is found once: a test may change its directory later.
var moduleRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the directory of the test")
		}
		dir = parent
	}
})

// FewVersions is Versions for tests that take long: only the oldest of them,
// except in the long form or where WALRECV_TEST_MAJORS asks for others.
func FewVersions(t testing.TB) []int {
	t.Helper()
	majors := Versions(t)
	if Long() || os.Getenv("WALRECV_TEST_MAJORS") != "" {
		return majors
	}
	return majors[:1]
}
