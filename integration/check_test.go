package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// checked is what "walrecv check --json" says.
type checked struct {
	t      testing.TB
	code   int
	Result string `json:"result"`
	Checks []struct {
		Check, Result, Message, Advice string
	} `json:"checks"`
}

func check(t testing.TB, args ...string) *checked {
	t.Helper()
	return checkStore(t, nil, args...)
}

// checkStore is check with the keys of a store.
func checkStore(t testing.TB, env []string, args ...string) *checked {
	t.Helper()
	code, stdout, stderr := withStore(t, env, append([]string{"check", "--json"}, args...)...)
	c := &checked{t: t, code: code}
	if err := json.Unmarshal([]byte(stdout), c); err != nil || stderr != "" {
		t.Fatalf("exit code %d, %v, stdout %s, stderr %s", code, err, stdout, stderr)
	}
	want := map[string]int{"ok": 0, "warning": 0, "error": 3}[c.Result]
	if code != want {
		t.Errorf("exit code %d with the result %s", code, c.Result)
	}
	for _, line := range c.Checks {
		if (line.Advice == "") != (line.Result == "ok") {
			t.Errorf("%s is %s, with the advice %q", line.Check, line.Result, line.Advice)
		}
	}
	return c
}

// says expects the result of one check, with texts.
func (c *checked) says(name, result string, texts ...string) {
	c.t.Helper()
	for _, line := range c.Checks {
		if line.Check != name {
			continue
		}
		for _, text := range append(texts, "") {
			if line.Result != result || !strings.Contains(line.Message+"; "+line.Advice, text) {
				c.t.Errorf("%s is %s: %s; %s; want %s with %q", name, line.Result, line.Message, line.Advice, result, text)
			}
		}
		return
	}
	if result != "" {
		c.t.Errorf("no line about %s", name)
	}
}

// only expects that nothing but the named checks is not ok.
func (c *checked) only(names ...string) {
	c.t.Helper()
	for _, line := range c.Checks {
		if line.Result != "ok" && !slices.Contains(names, line.Check) {
			c.t.Errorf("%s is %s: %s", line.Check, line.Result, line.Message)
		}
	}
}

// A receiver that works is found to work, in every part, and what does not work is
// named.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.FewVersions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := small(t, major, nil)
			c.Exec("create role archiver replication login")
			archive := newDir(t)
			conn := fmt.Sprintf("host=127.0.0.1 port=%d user=archiver", c.Port)
			args := []string{"-d", conn, "-S", "walrecv", "--archive", archive}

			// Before anything was started.
			got := check(t, append(args, "--timeout=0")...)
			got.only("slot")
			got.says("slot", "error", "the slot walrecv does not exist", "walrecv slot create walrecv")
			got.says("arrival", "")
			got = check(t, append(args, "--ensure-slot", "--timeout=1s")...)
			got.only("arrival")
			got.says("slot", "ok", "--ensure-slot creates it")
			got.says("archive_read", "ok", "one of this cluster") // since the first check
			got.says("arrival", "error", "no receiver streams from this server through the slot walrecv", "start walrecv receive")
			if left := filesIn(t, filepath.Join(archive, c.SystemID())); !slices.Equal(left, []string{"tail", "walrecv.json"}) {
				t.Errorf("a check leaves %v", left)
			}

			r := inSpool(t, c, newDir(t), "-S", "walrecv", "--ensure-slot", "--archive", archive, "-d", conn).start()
			emit(c, 1500)
			got = check(t, append(args, "--tail-interval=0")...)
			got.only()
			got.says("connection", "ok", fmt.Sprintf("127.0.0.1:%d answers", c.Port), "role archiver")
			got.says("rights", "ok", "role archiver")
			got.says("server", "ok", "a primary", c.SystemID())
			got.says("slot", "ok", "holds WAL back from 0/", "for walrecv at 127.0.0.1 since 20")
			got.says("arrival", "ok", "WAL in complete segments")
			got = check(t, args...)
			got.only()
			got.says("arrival", "ok", "WAL written now", "reached the archive within")
			for _, name := range []string{"archive_read", "archive_list", "archive_write", "archive_conditional_write", "archive_delete", "continuity", "clock"} {
				got.says(name, "ok")
			}
			r.stop()
		})
	}
}

// What a receiver would stumble over.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), map[string]string{"max_wal_senders": "4", "wal_sender_timeout": "0", "max_slot_wal_keep_size": "-1", "wal_level": "logical"})
	c.Exec("create role plain login")
	c.Exec("select pg_create_physical_replication_slot('unreserved'), pg_create_logical_replication_slot('logical', 'test_decoding')")
	archive := newDir(t)
	args := []string{"-d", c.ReplConn(), "--timeout=0", "--archive", archive}

	got := check(t, "-d", fmt.Sprintf("host=127.0.0.1 port=%d user=plain", c.Port), "--archive", archive)
	got.says("rights", "error", "ALTER ROLE plain REPLICATION")
	got.says("archive_read", "") // of which cluster is not known
	got = check(t, args...)
	got.only("slot")
	got.says("slot", "warning", "without a replication slot", "wal_keep_size, which is 1GB")
	got = check(t, append(args, "-S", "unreserved")...)
	got.says("slot", "warning", "holds no WAL back until a receiver has streamed")
	got.says("slot_limit", "warning", "unlimited")
	got.says("slot_release", "warning", "wal_sender_timeout is off")
	check(t, append(args, "-S", "logical")...).says("slot", "error", "a logical one")

	c.Set(map[string]string{"synchronous_standby_names": "walrecv"})
	c.Reload()
	check(t, args...).says("synchronous", "warning", "--synchronous is off")
	check(t, append(args, "--synchronous")...).says("synchronous", "ok", "--synchronous is on")
	c.Set(map[string]string{"synchronous_commit": "remote_apply"})
	c.Reload()
	check(t, append(args, "--synchronous")...).says("synchronous", "warning", "waits for ever")
	c.Set(map[string]string{"synchronous_standby_names": "", "synchronous_commit": ""})
	c.SetHBA("host replication all 127.0.0.1/32 trust")
	c.Reload()
	got = check(t, args...)
	got.says("queries", "warning", "host postgres postgres 127.0.0.1/32", "database postgres")
	got.says("clock", "")
	c.SetHBA("host replication all 127.0.0.2/32 trust")
	c.Reload()
	check(t, args...).says("connection", "error", "host replication postgres 127.0.0.1/32")
	c.Stop(pgtest.Fast)
	check(t, args...).says("connection", "error", "cannot be reached")
}

// What an archive can lack.
func TestCheckFindsArchive(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	args := func(archive string) []string {
		return []string{"-d", c.ReplConn(), "--timeout=0", "--archive", archive}
	}
	none := filepath.Join(newDir(t), "none")
	got := check(t, args(none)...)
	got.says("archive_read", "error", "the archive directory is missing", "create it, mount it, or correct --archive")
	got.says("archive_list", "")

	foreign := newDir(t)
	other := smallWith(t, pgtest.Options{Major: pgtest.Version(t), Fresh: true})
	check(t, "-d", other.ReplConn(), "--timeout=0", "--archive", foreign).says("archive_write", "ok", "is one of this cluster now")
	got = check(t, args(foreign)...)
	got.says("archive_read", "error", "holds nothing of this cluster ("+c.SystemID()+"), only of "+other.SystemID())
	got.says("archive_write", "")
	if _, err := os.Stat(inArchive(c, foreign)); err == nil {
		t.Error("a check has begun an archive beside that of another cluster")
	}

	readOnly := newDir(t)
	chmod(t, readOnly, 0o500)
	got = check(t, args(readOnly)...)
	got.says("archive_list", "ok")
	got.says("archive_write", "error", "permission denied", "give them the right")
	chmod(t, readOnly, 0o700)

	// A server that is not the one that was archived.
	r := archiver(t, c, newDir(t), newDir(t))
	archive := r.args[len(r.args)-1]
	r.start()
	backup := c.BaseBackup(t, "")
	c.Exec("select pg_create_restore_point('clone')")
	emit(c, 3000)
	last := c.SwitchWAL()
	pgtest.Eventually(t, patience, func() bool { return exists(object(c, archive, last)) }, "%s is not archived", last)
	clone := c.Recover(t, backup.Dir, map[string]string{
		"restore_command": restoreCommand(r.bin, "--archive "+archive), "recovery_target_name": "clone", "recovery_target_action": "promote",
	})
	got = check(t, "-d", clone.ReplConn(), "--archive", archive, "-S", "walrecv", "--timeout=0")
	got.says("continuity", "error", "a restored clone")
	check(t, "-d", clone.ReplConn(), "--archive", archive, "--timeout=0", "--accept-branch").says("continuity", "warning")
	// A receiver that archives somewhere else.
	got = check(t, "-d", c.ReplConn(), "--archive", newDir(t), "-S", "walrecv", "--timeout=1s")
	got.says("arrival", "error", "has not reached the archive within 1s", "a receiver streams (the server's process")
	r.stop()
	got = check(t, "-d", c.ReplConn(), "--archive", archive, "-S", "walrecv")
	got.only("arrival")
	got.says("arrival", "error", "no receiver streams")
}

// What an archive in S3 can lack.
func TestCheckS3(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	s := s3test.Start(t)
	proxy := s.Proxy(t)
	args := func(url string) []string {
		return []string{"-d", c.ReplConn(), "--timeout=0", "--archive", url}
	}
	got := checkStore(t, s.Environ(), args(s.URL("p"))...)
	got.only("slot")
	for _, name := range []string{"archive_read", "archive_list", "archive_write", "archive_conditional_write", "archive_delete"} {
		got.says(name, "ok")
	}
	if left := s.Objects(t); !slices.Equal(left, []string{"p/" + c.SystemID() + "/walrecv.json"}) {
		t.Errorf("a check leaves %v", left)
	}
	missing := strings.Replace(s.URL("p"), s.Bucket, "nowhere", 1)
	checkStore(t, s.Environ(), args(missing)...).says("archive_read", "error", "does not exist", "correct --archive")
	wrong := s3test.Keys{Access: s.Keys.Access, Secret: "wrong"}
	checkStore(t, wrong.Environ(), args(s.URL("p"))...).says("archive_read", "error", "the keys for", "are wrong")
	proxy.IgnoreConditions(true)
	got = checkStore(t, s.Environ(), args(proxy.URL("p"))...)
	got.says("archive_conditional_write", "error", "If-None-Match")
	got = checkStore(t, s.Environ(), append(args(proxy.URL("p")), "--allow-unsafe-store")...)
	got.says("archive_conditional_write", "warning", "nobody else ever writes there")
	if code, stdout, _ := withStore(t, s.Environ(), append([]string{"check"}, args(s.URL("p"))...)...); code != 0 || !strings.HasPrefix(stdout, "ok: connection: ") {
		t.Errorf("exit %d: %s", code, stdout)
	}
}
