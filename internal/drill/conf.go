package drill

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Sizes that a server in recovery must not have smaller than the primary had. Where
// nothing says how large they were there, the server does (see shortage).
var sizes = map[string]int{
	"max_connections":           100,
	"max_worker_processes":      8,
	"max_wal_senders":           10,
	"max_prepared_transactions": 64,
	"max_locks_per_transaction": 64,
}

// controlLines are the sizes as pg_controldata names them.
var controlLines = map[string]string{
	"max_connections setting":      "max_connections",
	"max_worker_processes setting": "max_worker_processes",
	"max_wal_senders setting":      "max_wal_senders",
	"max_prepared_xacts setting":   "max_prepared_transactions",
	"max_locks_per_xact setting":   "max_locks_per_transaction",
}

// sizesOf reads the output of pg_controldata, in the C locale.
func sizesOf(output string) map[string]int {
	found := map[string]int{}
	lines := bufio.NewScanner(strings.NewReader(output))
	for lines.Scan() {
		label, value, _ := strings.Cut(lines.Text(), ":")
		name, known := controlLines[label]
		if n, err := strconv.Atoi(strings.TrimSpace(value)); known && err == nil {
			found[name] = n
		}
	}
	return found
}

// settingsOf are all settings of the server, but for recovery. The configuration of
// the backup has no say: it may lie elsewhere, and name libraries, certificates and
// log files that this machine does not have. And what it makes a server do must not
// happen twice: nothing is archived, no subscription fetches from its publisher, no
// background worker of an extension runs.
func (p *place) settingsOf(major int, hotStandby bool, sized map[string]int) map[string]string {
	s := map[string]string{
		"listen_addresses":        "",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": p.socket,
		"unix_socket_permissions": "0700",
		"hba_file":                p.file(hbaFile),
		"ident_file":              p.file(identFile),
		"cluster_name":            "walrecv drill",

		"archive_mode":                    "off",
		"max_logical_replication_workers": "0",
		"hot_standby":                     onOff(hotStandby),
		"restart_after_crash":             "off",
		"autovacuum":                      "off",

		"shared_buffers": "128MB",
		"huge_pages":     "off",
		"jit":            "off",
		// Segments in /dev/shm would outlive a server that is killed.
		"dynamic_shared_memory_type": "mmap",

		"log_destination":               "stderr",
		"logging_collector":             "off",
		"log_line_prefix":               linePrefix,
		"log_min_messages":              "warning",
		"log_min_error_statement":       "panic", // whose data it is does not belong in a report
		"log_checkpoints":               "on",
		"log_startup_progress_interval": "1s",
		"lc_messages":                   "C",
		"log_timezone":                  "UTC",
		"timezone":                      "UTC",
	}
	if major >= 17 {
		s["event_triggers"] = "off"
	}
	for name, n := range sizes {
		s[name] = strconv.Itoa(max(n, sized[name]))
	}
	return s
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// configure writes the server's own configuration.
func (p *place) configure(settings map[string]string) error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = %s\n", name, quoteSetting(settings[name]))
	}
	for base, content := range map[string]string{
		confFile:  text.String(),
		hbaFile:   "local all all trust\n", // the directory of the socket is closed to others
		identFile: "",
	} {
		if err := p.write(p.file(base), content); err != nil {
			return err
		}
	}
	return nil
}

// quoteSetting writes a value as a configuration file has it.
func quoteSetting(value string) string {
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(value) + "'"
}

// disarm takes away what the backup's data directory says about how the server is to
// run: what ALTER SYSTEM left, and whether it is a standby.
func (p *place) disarm() error {
	for _, base := range []string{"standby.signal", "recovery.signal", "postmaster.pid", "postmaster.opts"} {
		if err := os.Remove(filepath.Join(p.data(), base)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return p.write(filepath.Join(p.data(), "postgresql.auto.conf"), "")
}
