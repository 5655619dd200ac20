package recovery

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestCommand(t *testing.T) {
	const guard = "answer() { r=$?; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r; }; trap answer EXIT; "
	const operands = ` %f "%p"`
	tests := []struct {
		binary string
		args   []string
		want   string
	}{
		{"/usr/bin/walrecv", nil, "/usr/bin/walrecv restore"},
		{"/usr/bin/walrecv", []string{"--archive", "s3://wal/prod?region=eu-central-1"}, "/usr/bin/walrecv restore --archive 's3://wal/prod?region=eu-central-1'"},
		{"/opt/my tools/walrecv", []string{"--config", "/etc/100%.toml"}, "'/opt/my tools/walrecv' restore --config /etc/100%%.toml"},
		{"walrecv", []string{"", "it's"}, `walrecv restore '' 'it'\''s'`},
	}
	for _, tt := range tests {
		if got := Command(tt.binary, tt.args); got != guard+tt.want+operands {
			t.Errorf("Command(%q, %q) = %q", tt.binary, tt.args, got)
		}
	}
}

// echo is a program that says what it was called with, and ends with a code.
func echo(t testing.TB, dir, code string) string {
	t.Helper()
	name := filepath.Join(dir, "wal recv's 100%f")
	script := "#!/bin/sh\nfor a; do printf '%s\\0' \"$a\"; done\nexit " + code + "\n"
	if err := os.WriteFile(name, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// call runs a restore_command as PostgreSQL does.
func call(t testing.TB, command, file, path string) (output string, code int) {
	t.Helper()
	command = strings.NewReplacer("%%", "%", "%f", file, "%p", path, "%r", "?").Replace(command)
	run := exec.Command("sh", "-c", command)
	out, err := run.Output()
	if run.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), run.ProcessState.ExitCode()
}

func TestCommandGuards(t *testing.T) {
	for code, want := range map[string]int{"0": 0, "1": 1, "2": 200, "125": 200, "126": 126, "134": 134, "201": 201, "202": 202} {
		if _, got := call(t, Command(echo(t, t.TempDir(), code), nil), "F", "pg_wal/RECOVERYXLOG"); got != want {
			t.Errorf("a program that ends with %s: %d", code, got)
		}
	}
	if _, got := call(t, Command("/nowhere/walrecv", nil), "F", "P"); got != 127 {
		t.Errorf("without the program: %d", got)
	}
	if code := withoutProcesses(t, Command("/bin/true", nil)); code < 126 {
		t.Errorf("a shell that cannot fork: %d", code)
	}
}

// withoutProcesses runs a command in a shell that may have no child. Root may have as
// many as there is room for, so another user runs it then.
func withoutProcesses(t *testing.T, command string) (code int) {
	t.Helper()
	run := exec.Command("prlimit", "--nproc=1", "sh", "-c", command)
	if os.Geteuid() == 0 {
		const nobody = 65534
		run.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := run.CombinedOutput()
	if run.ProcessState == nil || !strings.Contains(strings.ToLower(string(out)), "fork") {
		t.Fatalf("it was to fail: %v, %s", err, out)
	}
	return run.ProcessState.ExitCode()
}

func FuzzCommand(f *testing.F) {
	for _, arg := range []string{"", "plain", "it's", "100%f %p %%", "$HOME `id` \\ \" & ; | > < * ? ~ # !", "two\nlines", "\xff", "-", "--x=~", "a%"} {
		f.Add(arg, "/data/pg_wal/RECOVERYXLOG")
	}
	f.Add("x", "/my data/pg_wal/RECOVERYXLOG")
	binary := echo(f, f.TempDir(), "0")
	f.Fuzz(func(t *testing.T, arg, path string) {
		if strings.ContainsRune(arg, 0) || strings.ContainsAny(path, "\x00\"\\`$%") {
			return // no argument can have the one, and PostgreSQL quotes nothing in a path
		}
		got, code := call(t, Command(binary, []string{"--archive", arg}), "00000002.history", path)
		want := []string{"restore", "--archive", arg, "00000002.history", path, ""}
		if code != 0 || !slices.Equal(strings.Split(got, "\x00"), want) {
			t.Errorf("%d, %q instead of %q", code, got, want)
		}
	})
}
