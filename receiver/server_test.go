package receiver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/segment"
)

// connection opens a replication connection to a fake server.
func connection(t *testing.T, s *fakepg.Server) (*pgconn.PgConn, *ConnConfig) {
	t.Helper()
	c := parse(t, ConnOptions{Conninfo: "host=a user=u", Dial: network{"a": s}.dial})
	conn, failure := connectTo(t, c)
	if failure != nil {
		t.Fatal(failure)
	}
	return conn, c
}

func TestIdentify(t *testing.T) {
	for _, test := range []struct {
		config fakepg.Config
		want   Server
	}{
		{
			fakepg.Config{Version: "15.18 (Debian 15.18-0+deb12u1)", End: 0x1_0000_0300},
			Server{
				Version: "15.18 (Debian 15.18-0+deb12u1)", VersionNum: 150018, Major: 15,
				SystemID: 17123456789012345678, Timeline: 1, End: 0x1_0000_0300, SegmentSize: 1 << 20,
				DirMode: 0o700, FileMode: 0o600,
			},
		},
		{
			fakepg.Config{Version: "13.23", SystemID: 7, Timeline: 4294967295, Standby: true, DirMode: "0750", SegmentSize: 1 << 30, Begin: 5, End: 5},
			Server{
				Version: "13.23", VersionNum: 130023, Major: 13,
				SystemID: 7, Timeline: 4294967295, End: 5, SegmentSize: 1 << 30,
				DirMode: 0o750, FileMode: 0o640, InRecovery: true,
			},
		},
		{
			fakepg.Config{Version: "19devel", SystemID: 7, Standby: true, SegmentSize: 64 << 20, Begin: 1, End: 1},
			Server{
				Version: "19devel", VersionNum: 190000, Major: 19,
				SystemID: 7, Timeline: 1, End: 1, SegmentSize: 64 << 20,
				DirMode: 0o700, FileMode: 0o600, InRecovery: true,
			},
		},
	} {
		s := fake(t, test.config)
		conn, _ := connection(t, s)
		got, err := Identify(t.Context(), conn)
		if err != nil {
			t.Errorf("%s: %v", test.config.Version, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: want -, got +\n%s", test.config.Version, diff)
		}
		want := []string{"SHOW data_directory_mode", "IDENTIFY_SYSTEM", "SHOW wal_segment_size"}
		if diff := cmp.Diff(want, s.Commands()[:3]); diff != "" {
			t.Error(diff)
		}
	}
}

// answer replies to a command with one row instead of the server.
func answer(command string, row ...*string) func(*fakepg.Conn, string) (bool, error) {
	return func(c *fakepg.Conn, got string) (bool, error) {
		if got != command {
			return false, nil
		}
		columns := make([]string, len(row))
		return true, errors.Join(c.Rows(columns, row), c.Complete("X"))
	}
}

func TestUnsuitableServers(t *testing.T) {
	id, tli, lsn, db := fakepg.Text("1"), fakepg.Text("1"), fakepg.Text("0/1"), fakepg.Text("x")
	for _, test := range []struct {
		name   string
		config fakepg.Config
		class  Class
		text   string
	}{
		{"too old", fakepg.Config{Version: "12.22"}, ClassFatal, "13 is the oldest"},
		{"much too old", fakepg.Config{Version: "9.6.24"}, ClassFatal, "13 is the oldest"},
		{"no version", fakepg.Config{Version: "unknown"}, ClassFatal, "cannot be understood"},
		{"float datetimes", fakepg.Config{Parameters: map[string]string{"integer_datetimes": "off"}}, ClassFatal, "integer_datetimes"},
		{"logical", fakepg.Config{Command: answer("IDENTIFY_SYSTEM", id, tli, lsn, db)}, ClassFatal, "logical replication"},
		{"three columns", fakepg.Config{Command: answer("IDENTIFY_SYSTEM", id, tli, lsn)}, ClassRetry, "3 columns"},
		{"timeline 0", fakepg.Config{Command: answer("IDENTIFY_SYSTEM", id, fakepg.Text("0"), lsn, nil)}, ClassRetry, "not a timeline"},
		{"huge timeline", fakepg.Config{Command: answer("IDENTIFY_SYSTEM", id, fakepg.Text("4294967296"), lsn, nil)}, ClassRetry, "not a timeline"},
		{"odd position", fakepg.Config{Command: answer("IDENTIFY_SYSTEM", id, tli, fakepg.Text("1"), nil)}, ClassRetry, "not a WAL position"},
		{"negative identifier", fakepg.Config{Command: answer("IDENTIFY_SYSTEM", fakepg.Text("-1"), tli, lsn, nil)}, ClassRetry, "system identifier"},
		{"odd segment size", fakepg.Config{Parameters: map[string]string{"wal_segment_size": "3MB"}}, ClassRetry, "3MB"},
		{"odd mode", fakepg.Config{DirMode: "rwx"}, ClassFatal, "data_directory_mode"},
	} {
		conn, _ := connection(t, fake(t, test.config))
		_, err := Identify(t.Context(), conn)
		if err == nil || !strings.Contains(err.Error(), test.text) || Classify(err) != test.class {
			t.Errorf("%s: %v: %v", test.name, Classify(err), err)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]int{
		"15.18": 150018, "15.18 (Debian 15.18-0+deb12u1)": 150018, "17beta1": 170000, "18devel": 180000,
		"18rc1": 180000, "9.6.24": 90624, "16": 160000, "15.2-vendor": 150002,
		"": -1, "devel": -1, "v15": -1, "99999": -1,
	} {
		got, ok := parseVersion(text)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestTimelineHistory(t *testing.T) {
	const huge = 4000000000
	conn, _ := connection(t, fake(t, fakepg.Config{
		Timeline: huge, History: []fakepg.Fork{{Timeline: 1, End: 0x200000}, {Timeline: 7, End: 0x300000}},
		Histories: map[uint32]string{7: ""},
		Command: func(c *fakepg.Conn, command string) (bool, error) {
			return answer("TIMELINE_HISTORY 9", fakepg.Text("00000008.history"), fakepg.Text("x"))(c, command)
		},
	}))
	name, content, err := TimelineHistory(t.Context(), conn, huge)
	if err != nil || name != "EE6B2800.history" || !strings.HasPrefix(string(content), "1\t0/200000\t") {
		t.Errorf("%s %q %v", name, content, err)
	}
	// An error after the row description leaves the connection usable.
	for _, missing := range []segment.TimelineID{7, 1} {
		if _, _, err := TimelineHistory(t.Context(), conn, missing); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("timeline %d: %v", missing, err)
		}
	}
	if _, _, err := TimelineHistory(t.Context(), conn, 9); err == nil || !strings.Contains(err.Error(), "00000008.history") {
		t.Errorf("a file of another name: %v", err)
	}
	if _, err := Identify(t.Context(), conn); err != nil {
		t.Error(err)
	}
}

// A command does not wait for ever for a server that is stopped.
func TestSilentServer(t *testing.T) {
	stopped := make(chan struct{})
	conn, _ := connection(t, fake(t, fakepg.Config{Command: func(*fakepg.Conn, string) (bool, error) {
		<-stopped
		return true, nil
	}}))
	defer close(stopped)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Identify(ctx, conn); !errors.Is(err, context.DeadlineExceeded) || Classify(err) != ClassRetry {
		t.Errorf("%v: %v", Classify(err), err)
	}
}

func TestSlotNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, suggestion := range map[string]string{
		"pg_2": "ok", "1abc": "ok", "_": "ok", long: "ok",
		"pg-2": "pg_2", "Pg2": "pg2", "ä": "_", "a b": "a_b", `a"b`: "a_b", long + "b": long, "": "",
	} {
		err := CheckSlotName(name)
		var bad *SlotNameError
		switch {
		case suggestion == "ok":
			if err != nil {
				t.Error(err)
			}
		case !errors.As(err, &bad) || bad.Suggestion != suggestion || Classify(err) != ClassUsage:
			t.Errorf("%q: %v", name, err)
		case suggestion != "" && !strings.Contains(err.Error(), fmt.Sprintf("did you mean %q?", suggestion)):
			t.Errorf("%q: %v", name, err)
		case suggestion != "" && CheckSlotName(suggestion) != nil:
			t.Errorf("%q: the suggestion %q is refused too", name, suggestion)
		}
	}
}

func TestSlots(t *testing.T) {
	s := fake(t, fakepg.Config{
		Timeline: 2, History: []fakepg.Fork{{Timeline: 1, End: 0x300000}}, End: 0x480000,
		Slots: map[string]fakepg.Slot{"logical": {Logical: true}, "old": {RestartLSN: 0x2ABCDE}},
	})
	conn, c := connection(t, s)
	ctx := t.Context()
	check := func(what string, err error, want error, class Class) {
		t.Helper()
		if !errors.Is(err, want) || Classify(err) != class {
			t.Errorf("%s: %v: %v", what, Classify(err), err)
		}
	}
	_, err := ReadSlot(ctx, conn, c, "new", 15)
	check("read missing", err, ErrSlotMissing, ClassFatal)
	check("drop missing", DropSlot(ctx, conn, "new"), ErrSlotMissing, ClassFatal)
	_, err = ReadSlot(ctx, conn, c, "logical", 15)
	check("read logical", err, ErrSlotLogical, ClassUsage)
	check("create", CreateSlot(ctx, conn, "new", 15, false), nil, ClassRetry)
	check("create again", CreateSlot(ctx, conn, "new", 15, true), nil, ClassRetry)
	if err := CreateSlot(ctx, conn, "new", 15, false); sqlState(err) != codeDuplicateObject {
		t.Error(err)
	}
	for name, want := range map[string]Slot{
		"new": {Known: true, RestartLSN: 0x480000, RestartTLI: 2},
		"old": {Known: true, RestartLSN: 0x2ABCDE, RestartTLI: 1},
	} {
		if got, err := ReadSlot(ctx, conn, c, name, 15); err != nil || got != want {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	check("drop", DropSlot(ctx, conn, "new"), nil, ClassRetry)
	if _, exists := s.Slot("new"); exists {
		t.Error("the slot is still there")
	}
	for _, err := range []error{
		CreateSlot(ctx, conn, "pg-2", 15, false), DropSlot(ctx, conn, "pg-2"),
		func() error { _, err := ReadSlot(ctx, conn, c, "pg-2", 15); return err }(),
	} {
		if Classify(err) != ClassUsage {
			t.Errorf("bad name: %v", err)
		}
	}
}

// slotColumns are what is asked of pg_replication_slots.
var slotColumns = []string{
	"slot_type", "restart_lsn", "wal_status", "safe_wal_size", "active_pid",
	"application_name", "host", "state", "flush_lsn", "date_part", "retained", "reason",
}

// Before 15, and to tell a lost slot from a new one, an ordinary connection is
// used, to the server that the replication connection is to.
func TestSlotsBySQL(t *testing.T) {
	row := func(kind, lsn, status string) []*string {
		out := make([]*string, len(slotColumns))
		for i, value := range []string{kind, lsn, status} {
			if value != "" {
				out[i] = &value
			}
		}
		return out
	}
	for _, test := range []struct {
		name, version string
		rows          [][]*string
		noSQL         bool
		want          Slot
		err           error
	}{
		{"there", "14.23", [][]*string{row("physical", "0/2ABCDE", "reserved")}, false, Slot{Known: true, RestartLSN: 0x2ABCDE}, nil},
		{"new", "14.23", [][]*string{row("physical", "", "")}, false, Slot{Known: true}, nil},
		{"lost", "14.23", [][]*string{row("physical", "", "lost")}, false, Slot{Known: true, Lost: true}, nil},
		{"logical", "13.23", [][]*string{row("logical", "0/1", "reserved")}, false, Slot{}, ErrSlotLogical},
		{"missing", "13.23", nil, false, Slot{}, ErrSlotMissing},
		{"no connection", "13.23", nil, true, Slot{}, nil},
		{"lost on 15", "15.18", [][]*string{row("physical", "", "lost")}, false, Slot{Known: true, Lost: true}, nil},
		{"new on 15", "15.18", [][]*string{row("physical", "", "")}, false, Slot{Known: true}, nil},
		{"no connection on 15", "15.18", nil, true, Slot{Known: true}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := fake(t, fakepg.Config{
				Version: test.version,
				Slots:   map[string]fakepg.Slot{"s": {}},
				Startup: func(_ *fakepg.Conn, p map[string]string) *fakepg.Error {
					if test.noSQL && p["replication"] == "" {
						return &fakepg.Error{Code: "28000"}
					}
					return nil
				},
				Command: func(c *fakepg.Conn, command string) (bool, error) {
					if !strings.Contains(command, "pg_replication_slots") {
						return false, nil
					}
					if !strings.HasSuffix(command, "slot_name = 's'") {
						t.Errorf("asked: %s", command)
					}
					return true, errors.Join(c.Rows(slotColumns, test.rows...), c.Complete("SELECT"))
				},
			})
			other := fake(t, fakepg.Config{Standby: true})
			c := parse(t, ConnOptions{Conninfo: "host=b,a user=u target_session_attrs=primary", Dial: network{"a": s, "b": other}.dial})
			conn, failure := connectTo(t, c)
			if failure != nil {
				t.Fatal(failure)
			}
			got, err := ReadSlot(t.Context(), conn, c, "s", majorOf(t, conn))
			if !errors.Is(err, test.err) || got != test.want {
				t.Errorf("%+v, %v", got, err)
			}
			startups := s.Startups()
			if last := startups[len(startups)-1]; len(startups) != 2 || last["database"] != "postgres" || last["replication"] != "" {
				t.Errorf("connections: %v", startups)
			}
			if n := other.Connections(); n != 1 {
				t.Errorf("%d connections to the other host", n)
			}
		})
	}
}

func majorOf(t *testing.T, conn *pgconn.PgConn) int {
	t.Helper()
	number, ok := parseVersion(conn.ParameterStatus("server_version"))
	if !ok {
		t.Fatal("no version")
	}
	return number / 10000
}
