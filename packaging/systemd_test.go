//go:build packages

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/docs"
	"github.com/walrecv/walrecv/internal/pgtest"
)

// The packages are installed on a machine with systemd, which runs a receiver, a backup, a
// drill and what is kept, within the bounds of the units; see testdata/scenario.sh.
func TestWithSystemd(t *testing.T) {
	t.Parallel()
	cluster := func() *pgtest.Cluster {
		c := pgtest.New(t, pgtest.Options{
			Major: 15, WALSegmentSize: 1 << 20,
			HBA: []string{"host all replicator 127.0.0.1/32 scram-sha-256", "host replication replicator 127.0.0.1/32 scram-sha-256"},
		})
		c.Start()
		c.Exec("create role replicator login replication password 'secret'")
		return c
	}
	c, other := cluster(), cluster()
	scratch := t.TempDir()
	for name, from := range map[string]string{"boot.sh": "testdata/boot.sh", "scenario.sh": "testdata/scenario.sh", "walrecv.deb": built.deb, "walrecv.rpm": built.rpm} {
		output(t, "cp", from, filepath.Join(scratch, name))
	}
	if err := os.WriteFile(scratch+"/documented.sh", []byte(documented(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child",
		scratch+"/boot.sh", scratch, scratch+"/scenario.sh", scratch+"/walrecv.deb", scratch+"/walrecv.rpm",
		strconv.Itoa(c.Port), strconv.Itoa(other.Port), scratch+"/documented.sh")
	out, err := cmd.CombinedOutput()
	result, _ := os.ReadFile(scratch + "/result")
	if strings.TrimSpace(string(result)) != "0" {
		log, _ := os.ReadFile(scratch + "/log")
		t.Errorf("exit code %q, %v\n%s\n%s", result, err, out, log)
	}
}

// documented is what docs/install.md says is to be done with systemd. Nobody runs what
// other pages say of it, but for journalctl, unless the scenario does.
func documented(t *testing.T) string {
	t.Helper()
	pages, err := docs.Pages(pgtest.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	scenario, err := os.ReadFile("testdata/scenario.sh")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, p := range pages {
		for _, b := range p.Blocks {
			switch {
			case b.Place != "systemd":
			case p.Path == "docs/install.md":
				script.WriteString(b.Text)
			case !strings.HasPrefix(b.Text, "journalctl ") && !strings.Contains(string(scenario), b.Text):
				t.Errorf("%s: testdata/scenario.sh does not do this:\n%s", b.Where, b.Text)
			}
		}
	}
	return script.String()
}
