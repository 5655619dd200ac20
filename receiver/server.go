package receiver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/segment"
)

// minMajor is the oldest PostgreSQL that is supported.
const minMajor = 13

// Server is what a server says of itself at the beginning of a connection.
type Server struct {
	Version    string // as reported, with a vendor's tail
	VersionNum int    // as server_version_num: 150018; pre-releases count as .0
	Major      int

	SystemID    uint64
	Timeline    segment.TimelineID
	End         segment.LSN // end of its flushed WAL; on a standby, of what it received or replayed
	SegmentSize segment.Size

	// DirMode and FileMode are the permissions of its data directory: those
	// that copies of its files should have.
	DirMode, FileMode fs.FileMode

	InRecovery bool // a standby
}

// Identify asks the server who it is, in the order in which pg_receivewal
// does. A server that walrecv cannot work with is an [*UnsupportedError].
func Identify(ctx context.Context, conn *pgconn.PgConn) (Server, error) {
	var s Server
	if err := s.readVersion(conn); err != nil {
		return Server{}, err
	}
	for _, step := range []func(context.Context, *pgconn.PgConn) error{
		s.readModes, s.identifySystem, s.readSegmentSize,
	} {
		if err := step(ctx, conn); err != nil {
			return Server{}, err
		}
	}
	var err error
	s.InRecovery, err = inRecovery(ctx, conn)
	return s, err
}

func (s *Server) readVersion(conn *pgconn.PgConn) error {
	s.Version = conn.ParameterStatus("server_version")
	var ok bool
	if s.VersionNum, ok = parseVersion(s.Version); !ok {
		return &UnsupportedError{fmt.Sprintf("the server's version %q cannot be understood", s.Version)}
	}
	s.Major = s.VersionNum / 10000
	if s.Major < minMajor {
		return &UnsupportedError{fmt.Sprintf("the server is PostgreSQL %s; %d is the oldest that is supported", s.Version, minMajor)}
	}
	if value := conn.ParameterStatus("integer_datetimes"); value != "on" {
		return &UnsupportedError{fmt.Sprintf("the server has integer_datetimes=%q; only on is supported", value)}
	}
	return nil
}

// parseVersion reads "15.18", "15.18 (Debian 15.18-0+deb12u1)", "17beta1",
// "18devel" and "9.6.24" into the number that the server gives itself.
func parseVersion(text string) (number int, ok bool) {
	var parts []int
	rest := text
	for len(parts) < 3 {
		digits := leadingDigits(rest)
		if digits == "" || len(digits) > 4 {
			break
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return 0, false
		}
		parts = append(parts, n)
		rest = rest[len(digits):]
		if rest == "" || rest[0] != '.' {
			break
		}
		rest = rest[1:]
	}
	if len(parts) == 0 || parts[0] > 999 {
		return 0, false
	}
	parts = append(parts, 0, 0)
	if parts[0] < 10 { // the numbering of old: three parts
		return parts[0]*10000 + parts[1]%100*100 + parts[2]%100, true
	}
	return parts[0]*10000 + parts[1], true
}

func leadingDigits(text string) string {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return text[:i]
		}
	}
	return text
}

func (s *Server) readModes(ctx context.Context, conn *pgconn.PgConn) error {
	text, err := Show(ctx, conn, "data_directory_mode")
	if err != nil {
		return err
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil {
		return &UnsupportedError{fmt.Sprintf("the server's data_directory_mode %q cannot be understood", text)}
	}
	s.DirMode, s.FileMode = 0o700, 0o600
	if mode&0o040 != 0 {
		s.DirMode, s.FileMode = 0o750, 0o640
	}
	return nil
}

func (s *Server) identifySystem(ctx context.Context, conn *pgconn.PgConn) error {
	const command = "IDENTIFY_SYSTEM"
	row, err := singleRow(ctx, conn, command, 4)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if row[3] != nil {
		return &UnsupportedError{"the connection is one for logical replication, which cannot stream WAL files"}
	}
	if s.SystemID, err = strconv.ParseUint(string(row[0]), 10, 64); err != nil {
		return fmt.Errorf("%s: system identifier: %w", command, err)
	}
	timeline, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil || timeline == 0 {
		return fmt.Errorf("%s: %q is not a timeline", command, row[1])
	}
	s.Timeline = segment.TimelineID(timeline)
	if s.End, err = segment.ParseLSN(string(row[2])); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

func (s *Server) readSegmentSize(ctx context.Context, conn *pgconn.PgConn) error {
	text, err := Show(ctx, conn, "wal_segment_size")
	if err != nil {
		return err
	}
	if s.SegmentSize, err = segment.ParseSize(text); err != nil {
		return fmt.Errorf("wal_segment_size: %w", err)
	}
	return s.SegmentSize.Valid()
}

// TimelineHistory fetches a timeline's history file. Where the server has none,
// as it never has for timeline 1, the error wraps [fs.ErrNotExist].
func TimelineHistory(ctx context.Context, conn *pgconn.PgConn, t segment.TimelineID) (name string, content []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	command := fmt.Sprintf("TIMELINE_HISTORY %d", uint32(t))
	// pglogrepl's own command has no room for timelines above 2^31.
	reply, err := pglogrepl.ParseTimelineHistory(conn.Exec(ctx, command))
	var server *pgconn.PgError
	if errors.As(err, &server) && server.Code == codeNoSuchFile {
		return "", nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", command, err)
	}
	if want := segment.HistoryName(t); reply.FileName != want {
		return "", nil, fmt.Errorf("%s: the server answered with the file %q", command, reply.FileName)
	}
	return reply.FileName, reply.Content, nil
}
