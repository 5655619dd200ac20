//go:build packages

package packaging

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// built are the packages, which are built once for all tests.
var built struct {
	dir, deb, rpm string
}

// What the packages are built from, so that they could be built again.
var origin = []string{"VERSION=1.2.3", "COMMIT=abcdef012345", "SOURCE_DATE_EPOCH=1700000000"}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "walrecv-packages-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if out, err := build(".", dir); err != nil {
		_, _ = os.Stderr.WriteString(out + err.Error() + "\n")
		return 1
	}
	built.dir, built.deb, built.rpm = dir, dir+"/walrecv_1.2.3_amd64.deb", dir+"/walrecv-1.2.3-1.x86_64.rpm"
	return m.Run()
}

// build builds the packages from a source tree whose packaging directory is given.
func build(packaging, dir string) (output string, err error) {
	cmd := exec.Command(packaging+"/make-packages", dir)
	cmd.Env = append(os.Environ(), origin...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// output runs a program that has to succeed, and returns what it writes.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// unpacked is the root of a file system that has the files of the package and no others.
func unpacked(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", built.deb, root)
	return root
}

// Debian's own checker finds nothing, and the program in the package is the one that
// was built.
func TestDeb(t *testing.T) {
	t.Parallel()
	if found := output(t, "lintian", "--allow-root", "--fail-on", "none", built.deb); found != "" {
		t.Errorf("lintian: %s", found)
	}
	for _, line := range strings.Split(strings.TrimSpace(output(t, "dpkg-deb", "-c", built.deb)), "\n") {
		fields := strings.Fields(line)
		mode, owner, name := fields[0], fields[1], fields[5]
		want := "-rw-r--r--"
		switch {
		case strings.HasSuffix(name, "/"):
			want = "drwxr-xr-x"
		case name == "./usr/bin/walrecv":
			want = "-rwxr-xr-x"
		}
		if mode != want || owner != "root/root" {
			t.Errorf("%s: %s %s, want %s root/root", name, mode, owner, want)
		}
	}
	if got := output(t, unpacked(t)+"/usr/bin/walrecv", "version"); !strings.HasPrefix(got, "walrecv 1.2.3 (commit abcdef012345, go1.") {
		t.Errorf("the program says that it is %q", got)
	}
}

// The RPM package has the same files as the Debian one, and the same scripts.
func TestRPM(t *testing.T) {
	t.Parallel()
	root := unpacked(t)
	want := map[string]bool{}
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			want[strings.TrimPrefix(path, root)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(want, "/usr/share/lintian/overrides/walrecv")
	delete(want, "/usr/share/zsh/vendor-completions/_walrecv")
	want["/usr/share/zsh/site-functions/_walrecv"] = true
	files := output(t, "rpm", "-qp", "--queryformat", `[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\n]`, built.rpm)
	for line := range strings.Lines(files) {
		rights, name, _ := strings.Cut(strings.TrimSpace(line), " /")
		name = "/" + name
		if rights != "-rw-r--r-- root:root" && (name != "/usr/bin/walrecv" || rights != "-rwxr-xr-x root:root") {
			t.Errorf("%s: %s", name, rights)
		}
		if !want[name] {
			t.Errorf("%s is in the RPM package only", name)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s is not in the RPM package", name)
	}
	scripts := output(t, "rpm", "-qp", "--scripts", built.rpm)
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		script, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(scripts, strings.TrimSpace(string(script))) {
			t.Errorf("the RPM package does not have %s:\n%s", name, scripts)
		}
	}
}

// The same commit gives the same bytes, built from another directory.
func TestReproducible(t *testing.T) {
	t.Parallel()
	source, again := t.TempDir()+"/elsewhere", t.TempDir()
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	output(t, "sh", "-c", `cd .. && git ls-files -z --cached --others --exclude-standard | tar --null -T - -c | tar -x -C "$0" && ln -s "$PWD/build" "$0/build"`, source)
	if out, err := build(source+"/packaging", again); err != nil {
		t.Fatal(out, err)
	}
	for _, path := range []string{built.deb, built.rpm} {
		output(t, "cmp", path, again+"/"+filepath.Base(path))
	}
}

// The manual is one that man and mandoc have nothing to say against.
func TestManual(t *testing.T) {
	t.Parallel()
	root := unpacked(t)
	pages, err := filepath.Glob(root + "/usr/share/man/man1/*.1.gz")
	if err != nil || len(pages) < 15 {
		t.Fatalf("there are %d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		plain := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(page), ".gz"))
		output(t, "sh", "-c", `gunzip <"$0" >"$1"`, page, plain)
		output(t, "mandoc", "-T", "lint", "-W", "warning", plain)
		if said := output(t, "sh", "-c", `LC_ALL=C.UTF-8 MANROFFSEQ= man --warnings -E UTF-8 -l "$0" 2>&1 >/dev/null`, plain); said != "" {
			t.Errorf("man says %s", said)
		}
	}
	text := output(t, "sh", "-c", `LC_ALL=C.UTF-8 MANWIDTH=100 man -E ascii -l "$0" | col -b`, root+"/usr/share/man/man1/walrecv-receive.1.gz")
	for _, want := range []string{"walrecv-receive - ", "-D, --directory DIR", "--tail-interval D", "(default 1s)", "--config FILE", "walrecv(1)"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page of receive does not say %q:\n%s", want, text)
		}
	}
}

// What the package gives to shells completes command lines there.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	root := unpacked(t)
	bash := `export PATH="$0/usr/bin:$PATH"; . /usr/share/bash-completion/bash_completion; . "$0/usr/share/bash-completion/completions/walrecv"
		COMP_WORDS=(walrecv receive --ack ""); COMP_CWORD=3; COMP_LINE="walrecv receive --ack "; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
		__start_walrecv; echo "${COMPREPLY[*]}"`
	if got := output(t, "bash", "-c", bash, root); strings.TrimSpace(got) != "flush archive" {
		t.Errorf("bash offers %q", got)
	}
	fish := `set -gx PATH $argv[1]/usr/bin $PATH; source $argv[1]/usr/share/fish/vendor_completions.d/walrecv.fish; complete -C "walrecv receive --ack "`
	if got := strings.Fields(output(t, "fish", "--no-config", "-c", fish, root)); strings.Join(got, " ") != "archive flush" && strings.Join(got, " ") != "flush archive" {
		t.Errorf("fish offers %q", got)
	}
	output(t, "zsh", "-n", root+"/usr/share/zsh/vendor-completions/_walrecv")
}
