package lint

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// programOnly lists what only the packages of cmd do: end the process, read the
// environment, hold the standard streams, and choose the logger. A library that
// did could not be tested, or would decide what its caller has to.
var programOnly = map[string][]string{
	"os": {
		"Args", "Clearenv", "Environ", "Exit", "Expand", "ExpandEnv", "Getenv", "LookupEnv", "Setenv", "Stderr",
		"Stdin", "Stdout", "Unsetenv", "UserCacheDir", "UserConfigDir", "UserHomeDir",
	},
	"syscall": {"Exit", "Environ", "Getenv", "Setenv", "Stdin", "Stdout", "Stderr"},
	"runtime": {"Goexit"},
	"fmt":     {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"log/slog": {
		"Debug", "DebugContext", "Default", "Error", "ErrorContext", "Info", "InfoContext", "Log", "LogAttrs",
		"SetDefault", "Warn", "WarnContext", "With",
	},
	"log":       nil, // all of it
	"flag":      nil,
	"os/signal": nil,
}

// builtins that end the process or write to its standard error.
var builtins = []string{"panic", "print", "println"}

// programRule finds what only a program does, in packages that are none.
func programRule(s *source) (faults []string) {
	if s.isTest() || within(s.pkg(), append([]string{"cmd"}, support...)) {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && isProgramOnly(s.imports[x.Name], n.Sel.Name) {
				faults = append(faults, s.at(n.Pos())+": only cmd may use "+s.imports[x.Name]+"."+n.Sel.Name)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains(builtins, f.Name) {
				faults = append(faults, s.at(n.Pos())+": a library returns errors and does not "+f.Name)
			}
		}
		return true
	})
	return faults
}

func isProgramOnly(pkg, name string) bool {
	names, listed := programOnly[pkg]
	return listed && (names == nil || slices.Contains(names, name))
}

func TestOnlyProgramsActAsPrograms(t *testing.T) { checkTree(t, programRule) }

func TestProgramRuleFinds(t *testing.T) {
	code := func(pkg, line string) string {
		var imports strings.Builder
		if pkg != "" {
			imports.WriteString("import " + pkg + "\n")
		}
		return imports.String() + "func f() { " + line + " }"
	}
	checkSamples(t, programRule, []sample{
		{"segment/a.go", code(`"os"`, `os.Exit(1)`), "os.Exit"},
		{"segment/a.go", code(`"os"`, `exit := os.Exit; exit(1)`), "os.Exit"},
		{"segment/a.go", code(`system "os"`, `system.Getenv("HOME")`), "os.Getenv"},
		{"segment/a.go", code(`"os"`, `os.LookupEnv("HOME")`), "os.LookupEnv"},
		{"segment/a.go", code(`"os"`, `os.Stdout.WriteString("x")`), "os.Stdout"},
		{"segment/a.go", code(`"os"`, `os.Open("x")`), ""},
		{"receiver/a.go", code(`"fmt"`, `fmt.Println("x")`), "fmt.Println"},
		{"receiver/a.go", code(`"fmt"`, `fmt.Sprintln("x")`), ""},
		{"receiver/a.go", code(`"log"`, `log.Fatal("x")`), "log.Fatal"},
		{"receiver/a.go", code(`"log/slog"`, `slog.Info("x")`), "log/slog.Info"},
		{"receiver/a.go", code(`"log/slog"`, `slog.String("x", "y")`), ""},
		{"receiver/a.go", code(`"os/signal"`, `signal.Reset()`), "os/signal.Reset"},
		{"storage/a.go", code(``, `panic("x")`), "panic"},
		{"storage/a_test.go", code(``, `panic("x")`), ""},
		{"cmd/walrecv/a.go", code(`"os"`, `os.Exit(1)`), ""},
		{"internal/pgtest/a.go", code(`"os"`, `os.Getenv("x")`), ""},
	})
}
