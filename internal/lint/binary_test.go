package lint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// reflectMethods builds a program and returns what in it looks up methods by a
// name that is only known at run time. Where something does, the linker keeps
// every exported method of every type, and the binary grows by a half.
func reflectMethods(t *testing.T, dir, pkg string) []string {
	t.Helper()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", os.DevNull, "-ldflags=-dumpdep", pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%.2000s", cmd, err, out)
	}
	if !strings.Contains(string(out), "main.main -> ") && !strings.Contains(string(out), "main.main <") {
		t.Fatalf("%v wrote no dependencies", cmd)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "<ReflectMethod>") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func TestLinkerCanDropUnusedMethods(t *testing.T) {
	if found := reflectMethods(t, moduleRoot(t), "./cmd/walrecv"); len(found) > 0 {
		t.Errorf("methods are looked up by name, so that the linker keeps all of them (templates of cobra do that):\n%s",
			strings.Join(found[:min(len(found), 10)], "\n"))
	}
}

func TestReflectMethodsAreFound(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module sample\n\ngo 1.26\n",
		"a.go": `package main

import (
	"os"
	"reflect"
)

func main() { reflect.ValueOf(os.Stdin).MethodByName(os.Args[0]).Call(nil) }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(reflectMethods(t, dir, ".")) == 0 {
		t.Error("a program that looks up methods by name looks like one that does not")
	}
}
