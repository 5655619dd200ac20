package integration

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// TestEncryption archives for two recipients, with a crash in between, loses the
// primary and the receiver, and recovers with the identity of one of them. Without
// one nothing is given away, and nothing taken for absent.
func TestEncryption(t *testing.T) {
	t.Parallel()
	ids, file := identityFiles(t, 3)
	dir := filepath.Dir(file[0])
	recipients, key := filepath.Join(dir, "recipients"), filepath.Join(dir, "digest.key")
	writeAll(t, map[string]string{
		recipients: "# the vault\n" + ids[0].Recipient().String() + "\n",
		key:        strings.Repeat("0123456789abcdef", 4) + "\n",
	})
	pgtest.Give(t, dir)

	p := newPrimary(t, pgtest.Version(t))
	archive := newArchive(t)
	first := walFile(p)
	r := newReceiver(t, p, "--archive", archive, "--encrypt-to", "@"+recipients, "--encrypt-to", ids[1].Recipient().String(), "--digest-key", key).start()
	backup := p.BaseBackup(t, "").Dir
	mark(p, "one")
	fill(p, 2)
	r.flushed()
	r.Kill()
	r.start() // finds what it archived, and cannot read it
	fill(p, 2)
	sealed := p.SwitchWAL()
	pgtest.Eventually(t, patience, func() bool {
		_, err := os.Stat(object(p, archive, sealed) + ".age")
		return err == nil
	}, "%s does not get archived", sealed)
	likeServer(t, p, archive, first, sealed, ids[1])
	mark(p, "two")
	r.flushed()
	r.stop() // with the tail
	p.Kill9()
	if tail := onlyEncrypted(t, archive); tail == 0 {
		t.Error("nothing of the tail is archived")
	}

	n := p.Recover(t, backup, map[string]string{"restore_command": restoreCommand(r.bin, "--archive "+archive+" --decrypt-with "+file[1])})
	wantMarks(t, n, "one two")
	checkHeapAndIndexes(t, n)
	n.Destroy()

	data := filepath.Join(pgtest.TempDir(t), "data")
	if err := os.MkdirAll(filepath.Join(data, "pg_wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeAll(t, map[string]string{filepath.Join(data, "recovery.signal"): ""})
	pgtest.Give(t, data)
	target := filepath.Join(data, "pg_wal", "RECOVERYXLOG")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"status --decrypt-with " + file[0], 0, " verified)"},
		{"status", 0, "--decrypt-with"},
		{"verify --deep --decrypt-with " + file[0], 0, "sound"},
		{"verify", 1, "what they hold was not seen"},
		{"verify --decrypt-with " + file[2], 1, "what they hold was not seen"},
		{"restore --retry-for 1s " + sealed + " " + target, 201, "is encrypted; see --decrypt-with"},
		{"restore --retry-for 1s --decrypt-with " + file[2] + " " + sealed + " " + target, 201, "no identity that was given fits"},
		{"restore --retry-for 1s --decrypt-with /not/there " + sealed + " " + target, 201, "--decrypt-with: open /not/there"},
		{"restore --retry-for 1s --decrypt-with " + file[0] + " " + sealed + " " + target, 0, ""},
	} {
		command := pgtest.Command(t, r.bin, append(strings.Fields(c.args), "--archive", archive)...)
		command.Start()
		code := command.Wait(patience)
		if out := command.Stdout() + command.Stderr(); code != c.code || !strings.Contains(out, c.says) || strings.Contains(out, "AGE-SECRET") {
			t.Errorf("%s: exit code %d\n%s", c.args, code, out)
		}
	}
}

// identityFiles makes identities and a file for each.
func identityFiles(t *testing.T, n int) (ids []*age.X25519Identity, files []string) {
	t.Helper()
	dir := pgtest.TempDir(t)
	for i := range n {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "key"+string(rune('a'+i)))
		writeAll(t, map[string]string{file: "# public key: " + id.Recipient().String() + "\n" + id.String() + "\n"})
		ids, files = append(ids, id), append(files, file)
	}
	return ids, files
}

func writeAll(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// likeServer compares the server's complete segments from first to last with what
// age and "zstd -d" make of the objects.
func likeServer(t *testing.T, c *pgtest.Cluster, archive, first, last string, id age.Identity) {
	t.Helper()
	compared := 0
	for _, name := range sealedNames(t, c.WALDir()) {
		if name < first || name > last {
			continue
		}
		path := object(c, archive, name) + ".age"
		pgtest.Eventually(t, patience, func() bool { return exists(path) }, "%s does not get archived", name)
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		frame, err := age.Decrypt(file, id)
		if err != nil {
			t.Fatal(err)
		}
		unpack := exec.Command("zstd", "-dcq")
		unpack.Stdin = io.MultiReader(frame) // not the file itself
		plain, err := unpack.Output()
		if err != nil || !bytes.Equal(plain, readFile(t, c.WALFile(name))) {
			t.Errorf("%s: %d bytes, %v", name, len(plain), err)
		}
		compared++
	}
	if compared < 4 {
		t.Errorf("only %d segments were compared", compared)
	}
}

// onlyEncrypted looks that nothing of the WAL stands in an archive in the clear, and
// says how many pieces of a tail there are.
func onlyEncrypted(t *testing.T, archive string) (tail int) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(archive), ".", func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a piece of the tail went meanwhile
		}
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") { // what a writer that was killed has left
			return err
		}
		if !strings.HasSuffix(path, ".zst.age") && d.Name() != "walrecv.json" {
			t.Errorf("%s is not encrypted", path)
		}
		if strings.Contains(path, "/tail/") {
			tail++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tail
}
