package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Build builds walrecv as it is shipped, once for all tests of a package, and
// returns the path of a binary that the user of the servers can run.
func Build(t testing.TB) string {
	t.Helper()
	return BuildPackage(t, "./cmd/walrecv")
}

// BuildRace is Build with the race detector.
func BuildRace(t testing.TB) string {
	t.Helper()
	return BuildPackage(t, "./cmd/walrecv", "-race")
}

var builds sync.Map // arguments -> func() (string, error)

// BuildPackage builds a main package, named from the root of the module, with
// flags of go build.
func BuildPackage(t testing.TB, pkg string, flags ...string) string {
	t.Helper()
	r := currentRun(t)
	key := strings.Join(append(slices.Clone(flags), pkg), "\x00")
	once, _ := builds.LoadOrStore(key, sync.OnceValues(func() (string, error) {
		return r.build(pkg, flags)
	}))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return path
}

func (r *run) build(pkg string, flags []string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir, err := r.mkdir(r.dir, "b")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(pkg))
	cgo := "CGO_ENABLED=0"
	if slices.Contains(flags, "-race") {
		cgo = "CGO_ENABLED=1"
	}
	args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return path, os.Chmod(path, 0o755)
}
