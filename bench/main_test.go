package bench

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// TestMain prints the table of what was measured.
func TestMain(m *testing.M) {
	code := m.Run()
	if len(table) > 0 {
		fmt.Printf("\n%s\n\n%s", machine(), markdown(table))
	}
	os.Exit(code)
}

// machine says what all this was measured on.
func machine() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // for people
	return fmt.Sprintf("%s, %d x %s, %s MiB of memory, Linux %s, %s, PostgreSQL %d",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), field("/proc/cpuinfo", "model name"), memory(), unix.ByteSliceToString(name.Release[:]), runtime.Version(), major)
}

func memory() string {
	kB, _ := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	return strconv.Itoa(kB >> 10)
}

// field is the first value of a name in a file of the proc file system.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "?"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

// major is the PostgreSQL whose own programs are the references: that of the machine.
const major = 15

// patience is for what must happen, however slow the machine is.
const patience = 5 * time.Minute

// metered is a program that runs under the meter.
type metered struct {
	*pgtest.Process
	b    *testing.B
	file string
}

// meter prepares a program to be measured.
func meter(b *testing.B, path string, args ...string) *metered {
	b.Helper()
	file := filepath.Join(pgtest.TempDir(b), "usage")
	p := pgtest.Command(b, pgtest.BuildPackage(b, "./bench/meter"), append([]string{file, path}, args...)...)
	return &metered{p, b, file}
}

// sample waits for the end of a program that must succeed.
func (m *metered) sample() sample {
	m.b.Helper()
	if code := m.Wait(patience); code != 0 {
		m.b.Fatalf("%s ended with %d: %s", m.Args[1], code, m.Stderr())
	}
	text, err := os.ReadFile(m.file)
	if err != nil {
		m.b.Fatal(err)
	}
	var s sample
	var kB int64
	if _, err := fmt.Sscan(string(text), &s.took, &s.cpu, &kB); err != nil {
		m.b.Fatalf("%q: %v", text, err)
	}
	s.rss = kB << 10
	return s
}
