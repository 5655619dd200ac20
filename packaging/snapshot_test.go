//go:build snapshot

package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What "make snapshot" made is what a release should have: all of it is in the list of
// checksums, an archive has the program and what it comes with and nothing of who made
// it, and the packages have the same programs.
func TestSnapshot(t *testing.T) {
	sums, err := os.ReadFile("../dist/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		data, err := os.ReadFile("../dist/" + name)
		if errors.Is(err, os.ErrNotExist) {
			data, err = os.ReadFile("../build/packages/" + name)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s has another checksum", name)
		}
		switch {
		case strings.HasSuffix(name, ".tar.gz"):
			archive(t, name, data)
		case strings.HasSuffix(name, ".cdx.json"):
			_, rest, _ := strings.Cut(name, "_")
			version, _, _ := strings.Cut(rest, "_")
			if !bytes.Contains(data, []byte("walrecv/walrecv@"+version)) {
				t.Errorf("%s is not about %s", name, version)
			}
		}
		kinds[filepath.Ext(name)]++
	}
	if want := map[string]int{".gz": 4, ".json": 4, ".deb": 2, ".rpm": 2}; !maps.Equal(kinds, want) {
		t.Errorf("there are %v, want %v", kinds, want)
	}
}

func archive(t *testing.T, name string, data []byte) {
	t.Helper()
	platform := strings.Split(strings.TrimSuffix(name, ".tar.gz"), "_") // walrecv, version, system, machine
	unzipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fmt.Sprintf("%04o %s", h.Mode, h.Name))
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "root" || h.Gname != "root" {
			t.Errorf("%s: %s is of %s:%s", name, h.Name, h.Uname, h.Gname)
		}
		if h.Name != "walrecv" || platform[2] != "linux" {
			continue
		}
		program, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		packages, err := filepath.Glob("../build/packages/*_" + platform[3] + ".deb")
		if err != nil || len(packages) != 1 {
			t.Fatalf("packages for %s: %v, %v", platform[3], packages, err)
		}
		packaged, err := exec.Command("sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar -xO ./usr/bin/walrecv`, packages[0]).Output()
		if err != nil || !bytes.Equal(program, packaged) {
			t.Errorf("%s has another program than %s, %v", name, packages[0], err)
		}
	}
	slices.Sort(files)
	if want := []string{"0644 CHANGELOG.md", "0644 LICENSE", "0644 README.md", "0755 walrecv"}; !slices.Equal(files, want) {
		t.Errorf("%s has %q, want %q", name, files, want)
	}
}
