//go:build packages

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// The package is installed on a machine with systemd, which runs a receiver, a backup, a
// drill and what is kept, within the bounds of the units; see testdata/scenario.sh.
func TestWithSystemd(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{
		Major: 15, WALSegmentSize: 1 << 20,
		HBA: []string{"host all replicator 127.0.0.1/32 scram-sha-256", "host replication replicator 127.0.0.1/32 scram-sha-256"},
	})
	c.Start()
	c.Exec("create role replicator login replication password 'secret'")
	scratch := t.TempDir()
	for name, from := range map[string]string{"boot.sh": "testdata/boot.sh", "scenario.sh": "testdata/scenario.sh", "walrecv.deb": built.deb} {
		output(t, "cp", from, filepath.Join(scratch, name))
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child",
		scratch+"/boot.sh", scratch, scratch+"/scenario.sh", scratch+"/walrecv.deb", strconv.Itoa(c.Port))
	out, err := cmd.CombinedOutput()
	result, _ := os.ReadFile(scratch + "/result")
	if strings.TrimSpace(string(result)) != "0" {
		log, _ := os.ReadFile(scratch + "/log")
		t.Errorf("exit code %q, %v\n%s\n%s", result, err, out, log)
	}
}
