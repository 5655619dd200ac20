// Package fakepg is a PostgreSQL server for tests, as far as a physical
// replication client can see one: start-up, authentication, the commands of a
// walsender, the copy stream with its keepalives and status reports, timelines
// that end, slots, base backups, an orderly shutdown. By default a [Server] behaves
// as a real one does; faults are put in with [Server.Inject] (inside the stream),
// [BaseBackup.Before] (inside a backup), [Config.Command] (instead of an answer) and
// [Config.Startup] (before it).
//
// WAL comes from a function of timeline and position, so a test can compare
// what arrived with [Server.ReadWAL]. Nothing depends on time or chance unless
// [Config.SenderTimeout] is set: WAL that is there when a stream starts arrives
// in the same messages every time.
package fakepg

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// PageSize is the size of a WAL page in bytes.
const PageSize = 8192

const (
	defaultSystemID    = 17123456789012345678 // does not fit an int64, like some real ones
	defaultSegmentSize = 1 << 20
	defaultVersion     = "15.18"
	defaultChunk       = 16 * PageSize
)

// Config describes a server at its start. The zero value is a PostgreSQL 15
// primary on timeline 1 with 1 MiB segments and no WAL yet beyond the start of
// its first segment. Positions are LSNs, sizes are bytes.
type Config struct {
	SystemID    uint64 // 0: a number above 2^63
	Version     string // server_version; "": 15.18
	SegmentSize uint64 // 0: 1 MiB
	DirMode     string // data_directory_mode; "": 0700

	Timeline uint32 // the server's timeline; 0: 1
	History  []Fork // its ancestors, oldest first
	Begin    uint64 // WAL of segments before this position is gone; 0: the second segment's start
	End      uint64 // end of the flushed WAL; 0: Begin
	Standby  bool   // in recovery

	// WAL fills p with the bytes at position at, all of which the given
	// timeline wrote. Nil: pages with valid headers around a pattern that is
	// different at every position of every timeline.
	WAL func(timeline uint32, at uint64, p []byte)

	// Chunk is the most bytes of WAL in one message; 0: 128 KiB as PostgreSQL.
	Chunk int

	// Slots are the replication slots there are, by name.
	Slots map[string]Slot

	// Histories replaces generated history files; an empty entry is a file
	// that the server does not have (58P01).
	Histories map[uint32]string

	// Parameters replaces or adds ParameterStatus values and SHOW results.
	Parameters map[string]string

	// BaseBackup is the answer to BASE_BACKUP.
	BaseBackup BaseBackup

	// SenderTimeout is wal_sender_timeout: the server asks for a reply after
	// half of it without a message from the client and hangs up after all of
	// it. 0: never.
	SenderTimeout time.Duration

	// Auth is what the server demands: "" (trust), "password" or
	// "scram-sha-256", with the passwords in Passwords by role.
	Auth      string
	Passwords map[string]string

	// TLS, if not nil, is offered to clients that ask for it.
	TLS *tls.Config

	// Startup may refuse a connection, given its start-up parameters. It is
	// called before authentication.
	Startup func(c *Conn, parameters map[string]string) *Error

	// Command may answer a command in the server's place; it is called on the
	// connection's goroutine. handled false leaves it to the server. An error
	// ends the connection. [Conn.Complete] and [Conn.Fail] end an answer.
	Command func(c *Conn, command string) (handled bool, err error)
}

// Server is a running fake primary or standby. Its methods are safe for
// concurrent use.
type Server struct {
	config Config
	major  int

	mu        sync.Mutex
	timeline  uint32
	history   []Fork
	end       uint64
	begin     uint64
	standby   bool
	slots     map[string]*Slot
	conns     map[*Conn]struct{}
	stopping  bool
	closed    bool
	faults    []injected
	commands  []string
	startups  []map[string]string
	statuses  []Status
	faultsHit int
	problems  []string
	changed   chan struct{} // closed and replaced whenever anything above changes

	listeners []net.Listener
	done      sync.WaitGroup
}

// New makes a server. It has no listener: connect with [Server.Dial], or call
// [Server.Listen]. Close must be called.
func New(config Config) *Server {
	if config.SystemID == 0 {
		config.SystemID = defaultSystemID
	}
	if config.Version == "" {
		config.Version = defaultVersion
	}
	if config.SegmentSize == 0 {
		config.SegmentSize = defaultSegmentSize
	}
	if config.DirMode == "" {
		config.DirMode = "0700"
	}
	if config.Timeline == 0 {
		config.Timeline = 1
	}
	if config.Begin == 0 {
		config.Begin = config.SegmentSize
	}
	if config.End == 0 {
		config.End = config.Begin
	}
	if config.Chunk == 0 {
		config.Chunk = defaultChunk
	}
	s := &Server{
		config:   config,
		major:    majorOf(config.Version),
		timeline: config.Timeline,
		history:  append([]Fork(nil), config.History...),
		begin:    config.Begin,
		end:      config.End,
		standby:  config.Standby,
		slots:    make(map[string]*Slot),
		conns:    make(map[*Conn]struct{}),
		changed:  make(chan struct{}),
	}
	for name, slot := range config.Slots {
		s.slots[name] = &slot
	}
	return s
}

func majorOf(version string) int {
	major := 0
	for _, c := range version {
		if c < '0' || c > '9' {
			break
		}
		major = major*10 + int(c-'0')
	}
	return major
}

// Listen opens a TCP port on the loopback interface and returns its address,
// host:port.
func (s *Server) Listen() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), s.Serve(l)
}

// Serve accepts connections from l until the server is closed; it returns at
// once. The server owns l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.Join(net.ErrClosed, l.Close())
	}
	s.listeners = append(s.listeners, l)
	s.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.start(conn)
		}
	})
	return nil
}

// Dial makes a connection in memory, whatever the address. It has the signature
// of a dialer so that it can be put in place of one. A closed server refuses.
func (s *Server) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	client, server := net.Pipe()
	if !s.start(server) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	}
	return client, nil
}

// start serves one connection on a goroutine of its own. It reports false if
// the server is closed.
func (s *Server) start(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return false
	}
	c := newConn(s, conn)
	s.conns[c] = struct{}{}
	s.done.Go(func() {
		c.serve()
		s.update(func() {
			delete(s.conns, c)
			if c.slot != nil && c.slot.owner == c {
				c.slot.owner = nil
			}
		})
	})
	return true
}

// Close cuts all connections, as a crash does, and waits for the goroutines.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	s.CutAll()
	s.done.Wait()
}

// CutAll closes every connection without a word. New ones are still accepted.
func (s *Server) CutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.cut()
	}
}

// Shutdown is a fast shutdown of the server: every stream gets all the WAL
// there is, is asked for replies until its flushed position (the written one,
// if it reports no flush) equals what was sent, and ends with CommandComplete
// without CopyDone; other connections get 57P01. New connections are refused
// with 57P03 until [Server.Restart]. It returns when all connections are gone.
func (s *Server) Shutdown(ctx context.Context) error {
	s.update(func() { s.stopping = true })
	return s.wait(ctx, func() bool { return len(s.conns) == 0 })
}

// Restart ends what Shutdown began: connections are accepted again.
func (s *Server) Restart() {
	s.update(func() { s.stopping = false })
}

// update changes the state under the lock and wakes everyone who waits.
func (s *Server) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.notifyLocked()
}

func (s *Server) notifyLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait blocks until condition, called under the lock, is true.
func (s *Server) wait(ctx context.Context, condition func() bool) error {
	for {
		s.mu.Lock()
		if condition() {
			s.mu.Unlock()
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) now() time.Time { return time.Now() }
