package check_test

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/check"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

const (
	mib    = 1 << 20
	system = 7411122233344455566
)

// rig is a server and a store that a test can make do what real ones hardly do.
type rig struct {
	t      *testing.T
	server *fakepg.Server
	store  *store
	o      check.Options

	walStatus string        // of the slot
	safeSize  string        // of the slot; "": no limit
	user      string        // pid of who has the slot; "": nobody
	state     string        // of the walsender that is seen without a slot
	skew      time.Duration // of the server's clock
	emit      func() string // what writes WAL; nil: it may not
	sql       bool
	asks      int       // for the slot
	asked     func(int) // called before each answer; may be nil
}

func newRig(t *testing.T, c fakepg.Config) *rig {
	t.Helper()
	r := &rig{t: t, store: &store{Mem: storagetest.NewMem()}, walStatus: "reserved", user: "4711", state: "streaming", sql: true}
	c.SystemID = system
	c.Begin, c.End = 3*mib, 5*mib+1000
	if c.Slots == nil {
		c.Slots = map[string]fakepg.Slot{"s": {RestartLSN: 4 * mib}}
	}
	settings := map[string]string{
		"wal_level": "replica", "max_wal_senders": "10", "synchronous_standby_names": "", "synchronous_commit": "on",
		"max_slot_wal_keep_size": "10GB", "wal_sender_timeout": "1min", "wal_keep_size": "0",
	}
	for name, value := range c.Parameters {
		settings[name] = value
	}
	c.Parameters = settings
	c.Command = r.answer
	c.Startup = func(_ *fakepg.Conn, parameters map[string]string) *fakepg.Error {
		if parameters["replication"] == "" && !r.sql {
			return &fakepg.Error{Code: "28000", Message: "no entry"}
		}
		return nil
	}
	r.server = fakepg.New(c)
	t.Cleanup(r.server.Close)
	r.o = check.Options{Slot: "s", Store: r.store, Tail: true}
	return r
}

// answer answers queries.
func (r *rig) answer(c *fakepg.Conn, command string) (bool, error) {
	row := func(values ...string) (bool, error) {
		columns, cells := make([]string, len(values)), make([]*string, len(values))
		for i, value := range values {
			if value != "" {
				cells[i] = &value
			}
		}
		if err := c.Rows(columns, cells); err != nil {
			return true, err
		}
		return true, c.Complete("SELECT 1")
	}
	slot, there := r.server.Slot("s")
	switch {
	case !strings.HasPrefix(command, "SELECT"):
		return false, nil
	case strings.Contains(command, "pg_replication_slots") && !there:
		if err := c.Rows([]string{""}); err != nil {
			return true, err
		}
		return true, c.Complete("SELECT 0")
	case strings.Contains(command, "pg_replication_slots"):
		r.asks++
		if r.asked != nil {
			r.asked(r.asks)
		}
		restart := ""
		if slot.RestartLSN != 0 {
			restart = fakepg.FormatLSN(slot.RestartLSN)
		}
		values := []string{"physical", restart, r.walStatus, r.safeSize, r.user, "", "", "", "", "", "", ""}
		if r.user != "" {
			copy(values[5:], []string{"walrecv", "192.0.2.7", "streaming", "0/500000", "1766000000.25"})
		}
		return row(values...)
	case strings.Contains(command, "pg_stat_replication"):
		return row(r.user, "walrecv", "192.0.2.7", r.state, "0/500000", "1766000000.25")
	case strings.Contains(command, "clock_timestamp"):
		return row(fmt.Sprintf("%f", float64(time.Now().Add(r.skew).UnixMicro())/1e6))
	case strings.Contains(command, "pg_logical_emit_message") && r.emit != nil:
		return row(r.emit())
	}
	return true, c.Fail(fakepg.Error{Code: "42501", Message: "permission denied"})
}

// run makes the checks.
func (r *rig) run() lines {
	r.t.Helper()
	conn, err := receiver.ParseConnInfo(receiver.ConnOptions{
		Conninfo: "host=db1 user=archiver sslmode=disable",
		Dial:     r.server.Dial,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.o.Conn = conn
	l := lines{t: r.t}
	if err := check.Run(r.t.Context(), r.o, func(line check.Line) { l.all = append(l.all, line) }); err != nil {
		r.t.Fatal(err)
	}
	return l
}

// lines are what was told.
type lines struct {
	t   *testing.T
	all []check.Line
}

// says expects the result of a check, with a text; the result "" that there is no
// such line.
func (l lines) says(name string, result check.Result, text string) {
	l.t.Helper()
	i := slices.IndexFunc(l.all, func(line check.Line) bool { return line.Check == name })
	switch {
	case i < 0 && result == "":
	case i < 0:
		l.t.Errorf("no line about %s: %v", name, l.all)
	case l.all[i].Result != result || !strings.Contains(l.all[i].Message+"; "+l.all[i].Advice, text):
		l.t.Errorf("%+v, want %s with %q", l.all[i], result, text)
	case (l.all[i].Advice == "") != (result == check.OK):
		l.t.Errorf("%+v: advice belongs to what is not ok", l.all[i])
	}
}

// store is a Mem that refuses what it is told to, and counts.
type store struct {
	*storagetest.Mem
	refuse    map[string]error // by operation
	overwrite bool             // it ignores that a key is taken
	puts      []string
}

func (s *store) Put(ctx context.Context, key string, src storage.Source) error {
	s.puts = append(s.puts, key)
	if err := s.refuse["put"]; err != nil {
		return err
	}
	if err := s.Mem.Put(ctx, key, src); err != nil && !s.overwrite {
		return err
	}
	return nil
}

func (s *store) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	if err := s.refuse["list"]; err != nil {
		return err
	}
	return s.Mem.List(ctx, prefix, fn)
}

func (s *store) Delete(ctx context.Context, key string) error {
	if err := s.refuse["delete"]; err != nil {
		return err
	}
	return s.Mem.Delete(ctx, key)
}

// keys are those of all objects.
func (s *store) keys(t *testing.T) (keys []string) {
	t.Helper()
	if err := s.Mem.List(t.Context(), "", func(i storage.Info) error { keys = append(keys, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	return keys
}

// What is put to see whether that is allowed does not stay, and where it would,
// it is not put.
func TestLeavesNothing(t *testing.T) {
	identity := fmt.Sprintf("%d/walrecv.json", uint64(system))
	for _, deny := range []error{nil, fmt.Errorf("delete: %w", fs.ErrPermission)} {
		r := newRig(t, fakepg.Config{})
		r.store.refuse = map[string]error{"delete": deny}
		for range 2 {
			l := r.run()
			if deny == nil {
				l.says("archive_delete", check.OK, "")
			} else {
				l.says("archive_delete", check.Warning, "never by age")
			}
			l.says("archive_write", check.OK, "")
			l.says("archive_conditional_write", check.OK, "")
			if keys := r.store.keys(t); !slices.Equal(keys, []string{identity}) {
				t.Errorf("a check leaves %v", keys)
			}
		}
		probed := slices.ContainsFunc(r.store.puts, func(key string) bool { return key != identity })
		if probed != (deny == nil) {
			t.Errorf("deleting: %v, put: %v", deny, r.store.puts)
		}
	}
}

func TestStoreFaults(t *testing.T) {
	denied := fmt.Errorf("the keys lack a right: %w", fs.ErrPermission)
	for _, test := range []struct {
		name   string
		refuse string
		err    error
		accept bool // --allow-unsafe-store
		check  string
		result check.Result
		text   string
	}{
		{"read only", "put", denied, false, "archive_write", check.Error, "give them the right"},
		{"no list", "list", denied, false, "archive_read", check.Error, "give them the right"},
		{"away", "put", fmt.Errorf("no route to host"), false, "archive_write", check.Error, "walrecv receive waits"},
		{"no conditions", "put", storage.ErrUnsafe, false, "archive_conditional_write", check.Error, "--allow-unsafe-store if nobody else"},
		{"no conditions, accepted", "put", storage.ErrUnsafe, true, "archive_conditional_write", check.Warning, "accepts that"},
		{"another region", "list", storage.ErrSetup, false, "archive_read", check.Error, "correct --archive"},
		{"no directory", "list", storage.ErrNoRoot, false, "archive_read", check.Error, "create it, mount it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, fakepg.Config{})
			r.store.refuse = map[string]error{test.refuse: test.err}
			r.o.AllowUnsafe = test.accept
			r.run().says(test.check, test.result, test.text)
		})
	}
	t.Run("overwrites in silence", func(t *testing.T) {
		r := newRig(t, fakepg.Config{})
		r.store.overwrite = true
		r.run().says("archive_conditional_write", check.Error, "If-None-Match")
		r.o.AllowUnsafe = true
		r.run().says("archive_conditional_write", check.Warning, "--allow-unsafe-store")
	})
	t.Run("another size of segments", func(t *testing.T) {
		r := newRig(t, fakepg.Config{})
		id := archive.Identity{SystemID: system, SegmentSize: 16 * mib, Major: 15}
		if _, err := archive.Init(t.Context(), r.store, id, archive.Keys{}); err != nil {
			t.Fatal(err)
		}
		l := r.run()
		l.says("archive_read", check.Error, "of another cluster")
		l.says("archive_write", "", "")
	})
	t.Run("no archive", func(t *testing.T) {
		r := newRig(t, fakepg.Config{})
		r.o.Store = nil
		l := r.run()
		l.says("archive", check.Warning, "--archive")
		l.says("archive_read", "", "")
	})
}

func TestSlotStates(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*rig)
		result check.Result
		text   string
	}{
		{"in use", func(*rig) {}, check.OK, "used by the server's process 4711 for walrecv at 192.0.2.7 since 2025-12-17 19:33:20 UTC"},
		{"idle", func(r *rig) { r.user = "" }, check.OK, "nobody uses it"},
		{"lost", func(r *rig) { r.walStatus = "lost" }, check.Error, "walrecv slot drop s"},
		{"lost, ensured", func(r *rig) { r.walStatus, r.o.EnsureSlot = "lost", true }, check.Warning, "makes it anew"},
		{"unreserved", func(r *rig) { r.walStatus = "unreserved" }, check.Error, "about to be lost"},
		{"reserves nothing", func(r *rig) { r.server.SetSlot("s", fakepg.Slot{}) }, check.Warning, "holds no WAL back until"},
		{"reserves nothing, though WAL is archived", func(r *rig) { r.server.SetSlot("s", fakepg.Slot{}); r.segment(3) }, check.Error, "invalidated, or created anew"},
		{"not to be asked", func(r *rig) { r.sql = false }, check.OK, "who uses it is not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, fakepg.Config{})
			test.change(r)
			r.run().says("slot", test.result, test.text)
		})
	}
	r := newRig(t, fakepg.Config{Slots: map[string]fakepg.Slot{"other": {}}})
	r.run().says("slot", check.Error, "walrecv slot create s")
	r.o.EnsureSlot = true
	r.run().says("slot", check.OK, "--ensure-slot creates it")
	r.segment(3)
	r.run().says("slot", check.Warning, "nothing keeps the server from removing")
}

// segment puts an object for a complete segment; nobody reads it.
func (r *rig) segment(number uint64) {
	r.t.Helper()
	if _, err := archive.Init(r.t.Context(), r.store, archive.Identity{SystemID: system, SegmentSize: mib, Major: 15}, archive.Keys{}); err != nil {
		r.t.Fatal(err)
	}
	r.complete(number)
}

// complete is segment for an archive that there is.
func (r *rig) complete(number uint64) {
	name := segment.Name{Timeline: 1, Number: number}.Format(mib)
	r.store.Set(archive.Object{System: system, Kind: archive.KindSegment, Timeline: 1, Segment: name}.Key(), []byte("x"))
}

// chunk puts an object for a piece of a segment.
func (r *rig) chunk(number uint64, from, to int64) {
	name := segment.Name{Timeline: 1, Number: number}.Format(mib)
	r.store.Set(archive.Object{System: system, Kind: archive.KindTail, Timeline: 1, Segment: name, From: from, To: to, Encrypted: true}.Key(), []byte("x"))
}

func TestSettings(t *testing.T) {
	for _, test := range []struct {
		setting, value string
		check          string
		result         check.Result
		text           string
	}{
		{"wal_level", "minimal", "wal_level", check.Error, "wal_level = replica"},
		{"max_wal_senders", "2", "walsenders", check.Warning, "1 of max_wal_senders = 2"},
		{"max_slot_wal_keep_size", "-1", "slot_limit", check.Warning, "unlimited"},
		{"wal_sender_timeout", "0", "slot_release", check.Warning, "stays in use"},
	} {
		r := newRig(t, fakepg.Config{Parameters: map[string]string{test.setting: test.value}})
		r.run().says(test.check, test.result, test.text)
	}
	r := newRig(t, fakepg.Config{})
	r.skew, r.safeSize = -time.Minute, "1000"
	l := r.run()
	l.says("clock", check.Warning, "1m0s apart")
	l.says("slot_limit", check.Warning, "after another 1000 bytes of WAL the slot may be lost")
	r = newRig(t, fakepg.Config{Version: "12.22"})
	l = r.run()
	l.says("server", check.Error, "13 is the oldest")
	l.says("slot", "", "")
}

// WAL has arrived when complete segments, then chunks, hold everything up to it.
func TestArrival(t *testing.T) {
	target := func(r *rig) { r.emit = func() string { return fakepg.FormatLSN(6*mib + 500) } }
	for _, test := range []struct {
		name   string
		change func(*rig)
		result check.Result
		text   string
	}{
		{"all of it", func(r *rig) { r.segment(4); r.segment(5); r.chunk(6, 0, 300); r.chunk(6, 200, 500) }, check.OK, "WAL written now (up to 0/6001F4 on timeline 1) reached the archive"},
		{"sealed meanwhile", func(r *rig) { r.segment(4); r.chunk(5, 0, mib); r.segment(6) }, check.OK, "reached"},
		{"a byte is missing", func(r *rig) { r.segment(4); r.segment(5); r.chunk(6, 0, 499) }, check.Error, "which ends at 0/6001F3"},
		{"a hole in the tail", func(r *rig) { r.segment(4); r.segment(5); r.chunk(6, 0, 300); r.chunk(6, 301, 500) }, check.Error, "which ends at 0/60012C"},
		{"a hole before the tail", func(r *rig) { r.segment(4); r.chunk(6, 0, 500) }, check.Error, "a receiver streams (the server's process 4711"},
		{"while it is waited for", func(r *rig) {
			r.emit = func() string {
				time.AfterFunc(10*time.Millisecond, func() { r.complete(5); r.chunk(6, 0, 500) })
				return fakepg.FormatLSN(6*mib + 500)
			}
			r.o.Timeout = 20 * time.Second
			r.segment(4)
		}, check.OK, "reached"},
		{"nothing may be written", func(r *rig) { r.emit = nil; r.segment(4); r.chunk(5, 0, 1000) }, check.OK, "up to 0/5003E8 on timeline 1, where the server was"},
		{"without a tail", func(r *rig) { r.o.Tail = false; r.segment(4); r.segment(5) }, check.OK, "WAL in complete segments, up to 0/600000"},
		{"a receiver comes back", func(r *rig) {
			r.user, r.o.Timeout = "", 20*time.Second
			r.asked = func(n int) {
				if n > 2 {
					r.user = "4711"
				}
			}
			r.segment(4)
			r.segment(5)
			r.chunk(6, 0, 500)
		}, check.OK, "reached"},
		{"nobody streams", func(r *rig) { r.user = "" }, check.Error, "no receiver streams from this server through the slot s"},
		{"without a slot", func(r *rig) { r.o.Slot = ""; r.segment(4); r.segment(5); r.chunk(6, 0, 500) }, check.OK, "reached"},
		{"only a base backup", func(r *rig) { r.o.Slot, r.state = "", "backup" }, check.Error, "no receiver streams from this server"},
		{"not to be asked", func(r *rig) { r.sql = false; r.segment(4); r.chunk(5, 0, 999) }, check.Error, "the receiver that streams is not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, fakepg.Config{})
			r.o.Timeout = time.Millisecond
			target(r)
			test.change(r)
			r.run().says("arrival", test.result, test.text)
		})
	}
}

func TestEndsWhenStopped(t *testing.T) {
	r := newRig(t, fakepg.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	conn, err := receiver.ParseConnInfo(receiver.ConnOptions{Conninfo: "host=db1 user=archiver sslmode=disable", Dial: r.server.Dial})
	if err != nil {
		t.Fatal(err)
	}
	r.o.Conn = conn
	if err := check.Run(ctx, r.o, func(l check.Line) { t.Errorf("told %+v", l) }); err == nil {
		t.Error("no error")
	}
}

// What is between the archive and the slot is in a receiver's directory, if it is
// anywhere.
func TestContinuity(t *testing.T) {
	r := newRig(t, fakepg.Config{})
	r.segment(3)
	r.run().says("continuity", check.OK, "continues what the archive holds, at the segment at 0/400000 on timeline 1")
	r.server.SetSlot("s", fakepg.Slot{RestartLSN: 5 * mib})
	r.run().says("continuity", check.OK, "") // somebody streams, who has the rest
	r.user = ""
	r.run().says("continuity", check.Warning, "the slot holds WAL back from 0/500000 on")
	r.segment(6)
	r.run().says("continuity", check.Error, "the archive holds WAL up to 0/700000")
	r = newRig(t, fakepg.Config{Standby: true})
	r.segment(6)
	r.run().says("continuity", check.Warning, "wait until it has caught up")
}
