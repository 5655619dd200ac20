//go:build packages

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// instructions are those of the last stage of the Dockerfile: words, and the rest.
func instructions(t *testing.T) [][2]string {
	t.Helper()
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, ok := strings.Cut(string(text), "\nFROM scratch\n")
	if !ok || strings.Contains(last, "FROM ") {
		t.Fatal("the last stage does not begin with nothing")
	}
	var all [][2]string
	for line := range strings.Lines(last) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		all = append(all, [2]string{word, rest})
	}
	return all
}

// image is the file system of the image, from what the Dockerfile copies.
func image(t *testing.T) (root, user string) {
	t.Helper()
	root = t.TempDir()
	rootfs := t.TempDir()
	output(t, "./rootfs", rootfs)
	from := map[string]string{
		"/etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
		"/rootfs/":                           rootfs + "/.",
		"/walrecv":                           unpacked(t) + "/usr/bin/walrecv",
	}
	for _, i := range instructions(t) {
		switch i[0] {
		case "COPY":
			paths := strings.Fields(strings.TrimPrefix(i[1], "--from=build "))
			if len(paths) != 2 || from[paths[0]] == "" {
				t.Fatalf("COPY %s: it is not known what that is", i[1])
			}
			if err := os.MkdirAll(filepath.Dir(root+paths[1]), 0o755); err != nil {
				t.Fatal(err)
			}
			output(t, "cp", "-a", from[paths[0]], root+paths[1])
		case "USER":
			user = i[1]
		}
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	return root, user
}

// In the image the program is alone, nobody special, and does all of its work.
func TestImage(t *testing.T) {
	t.Parallel()
	root, user := image(t)
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Fatalf("USER %q: Kubernetes cannot tell that this is not root", user)
	}
	if out := output(t, "sh", "-c", `ldd "$0" 2>&1 || :`, root+"/usr/bin/walrecv"); !strings.Contains(out, "not a dynamic executable") && !strings.Contains(out, "statically linked") {
		t.Errorf("the program needs libraries: %s", out)
	}
	c := pgtest.New(t, pgtest.Options{Major: 15, WALSegmentSize: 1 << 20, TLS: true})
	c.Start()
	// What a volume of Kubernetes may look like.
	if err := os.Mkdir(root+"/var/lib/walrecv/lost+found", 0o700); err != nil {
		t.Fatal(err)
	}
	output(t, "install", "-d", "-o", "65532", "-g", "65532", root+"/var/lib/walrecv/archive", root+"/var/lib/walrecv/spool")
	walrecv := func(args ...string) *exec.Cmd {
		cmd := exec.Command("chroot", append([]string{"--userspec=" + user, root, "/usr/bin/walrecv"}, args...)...)
		cmd.Env = []string{"HOME=/tmp", "TMPDIR=/tmp"}
		return cmd
	}
	var log strings.Builder
	receive := walrecv("receive", "-D", "/var/lib/walrecv", "-S", "walrecv", "--ensure-slot", "--archive", "/var/lib/walrecv/archive", "-d", c.ReplConn())
	receive.Stderr = &log
	if err := receive.Start(); err != nil {
		t.Fatal(err)
	}
	c.WaitFor("select count(*) from pg_stat_replication where application_name = 'walrecv'", "1", time.Minute)
	// Whom it trusts is what the image has for that.
	backup := func() (string, error) {
		out, err := walrecv("backup", "create", "--archive", "/var/lib/walrecv/archive", "-d", c.ReplConn()+" sslmode=verify-full sslrootcert=system").CombinedOutput()
		return string(out), err
	}
	if out, err := backup(); err == nil || !strings.Contains(out, "certificate signed by unknown authority") {
		t.Errorf("an authority that nobody knows: %v\n%s", err, out)
	}
	output(t, "sh", "-c", `cat "$0" >>"$1"`, c.CAFile, root+"/etc/ssl/certs/ca-certificates.crt")
	if out, err := backup(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := receive.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := receive.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// The manifests are what Kubernetes takes, and what they tell walrecv is right.
func TestManifests(t *testing.T) {
	t.Parallel()
	manifests, err := os.ReadFile("kubernetes/walrecv.yaml")
	if err != nil {
		t.Fatal(err)
	}
	decode := exec.Command("go", "run", ".")
	decode.Dir = "testdata/manifests"
	decode.Stdin = strings.NewReader(string(manifests))
	kinds, err := decode.CombinedOutput()
	if err != nil || strings.Join(strings.Fields(string(kinds)), " ") != "ConfigMap Secret StatefulSet CronJob" {
		t.Errorf("%v: %s", err, kinds)
	}
	_, rest, _ := strings.Cut(string(manifests), "walrecv.toml: |\n")
	var config strings.Builder
	for line := range strings.Lines(rest) {
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "    ") {
			break
		}
		config.WriteString(strings.TrimPrefix(line, "    "))
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/walrecv.toml", []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	program := unpacked(t) + "/usr/bin/walrecv"
	args := regexp.MustCompile(`(?m)^ +args: \[(.*)\]$`).FindAllStringSubmatch(string(manifests), -1)
	if len(args) != 2 {
		t.Fatalf("there are %d command lines", len(args))
	}
	for _, found := range args {
		line := strings.ReplaceAll(found[1], "/etc/walrecv/", dir+"/")
		check := exec.Command(program, append([]string{"config", "check"}, strings.Split(line, ", ")...)...)
		check.Env = []string{"HOME=" + dir, "AWS_ACCESS_KEY_ID=of-the-secret", "AWS_SECRET_ACCESS_KEY=of-the-secret"}
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	for want, times := range map[string]int{
		"runAsNonRoot: true": 2, "allowPrivilegeEscalation: false": 2, "readOnlyRootFilesystem: true": 2,
		"drop: [ALL]": 2, "seccompProfile: {type: RuntimeDefault}": 2, "path: /healthz": 1, "path: /readyz": 1,
	} {
		if got := strings.Count(string(manifests), want); got != times {
			t.Errorf("%q stands there %d times, want %d", want, got, times)
		}
	}
}

// What the program was built from is told in full, by the command of releases, which
// goreleaser calls in a directory of the repository, as this test is.
func TestSBOM(t *testing.T) {
	t.Parallel()
	releases, err := os.ReadFile("../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^    cmd: (\S+)`).FindSubmatch(releases)
	if command == nil {
		t.Fatal("releases have no list of what they were built from")
	}
	program, document := unpacked(t)+"/usr/bin/walrecv", filepath.Join(t.TempDir(), "sbom.json")
	output(t, string(command[1]), program, "1.2.3", document)
	sbom, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(sbom), `"pkg:golang/github.com/walrecv/walrecv@1.2.3"`) {
		t.Errorf("it is not told what this is:\n%s", sbom)
	}
	modules := 0
	for line := range strings.Lines(output(t, "go", "version", "-m", program)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0] == "dep" {
			modules++
			if !strings.Contains(string(sbom), `"pkg:golang/`+fields[1]+"@"+fields[2]+`"`) {
				t.Errorf("%s %s is not told", fields[1], fields[2])
			}
		}
	}
	if modules < 20 {
		t.Errorf("there are %d modules in the program", modules)
	}
}
