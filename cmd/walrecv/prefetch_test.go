package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHelperArguments(t *testing.T) {
	for line, want := range map[string]string{
		"restore --archive /a f p":                "--archive /a f p",
		"--config c restore --prefetch 3 f p":     "--config c --prefetch 3 f p",
		"restore --prefetch-dir restore f p":      "--prefetch-dir restore f p",
		"restore --spool /s --tail never -- f pp": "--spool /s --tail never -- f pp",
	} {
		got := helperArgs(strings.Fields(line))
		if !slices.Equal(got, append([]string{helperName}, strings.Fields(want)...)) || !isHelper(got) {
			t.Errorf("%s: %q", line, got)
		}
	}
}

// The helper understands what restore was told, wherever that came from.
func TestHelperOptions(t *testing.T) {
	config := writeFile(t, "archive = \"/a\"\n[restore]\nprefetch = 3\ntail = \"never\"\n")
	for _, c := range []struct {
		env, args string
		code      int
	}{
		{"", "--config " + config, exitFailed}, // here is no server
		{"WALRECV_CONFIG=" + config, "", exitFailed},
		{"WALRECV_PREFETCH=2", "--archive /a", exitFailed},
		{"", "--archive /a --bogus", exitUsage},
		{"WALRECV_PREFETCH=65", "--archive /a", exitUsage},
		{"", "", exitUsage},
	} {
		args := append([]string{helperName}, strings.Fields(c.args)...)
		o := walrecv([]string{c.env}, append(args, "000000010000000000000001", "pg_wal/RECOVERYXLOG")...)
		if o.code != c.code || o.stdout != "" {
			t.Errorf("%s %s: exit %d, %s; want %d", c.env, c.args, o.code, o.stderr, c.code)
		}
		runHelper(args, []string{c.env}) // comes back, whatever happens
	}
}

// No file that a server has left open gets to the helper.
func TestFilesStayHere(t *testing.T) {
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY, 0) // and not unix.O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := keepFilesHere(); err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("it goes on: %d, %v", flags, err)
	}
}

// The new parent is known once the old one has ended, and only then.
func TestNewParent(t *testing.T) {
	read, write := io.Pipe()
	parent := newParent(read)
	if _, err := write.Write([]byte("-1")); err != nil {
		t.Fatal(err)
	}
	select {
	case pid := <-parent:
		t.Errorf("%d while the old one lives", pid)
	default:
	}
	write.Close()
	if pid := <-parent; pid != os.Getppid() {
		t.Errorf("%d", pid)
	}
}
