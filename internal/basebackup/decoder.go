package basebackup

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walrecv/walrecv/segment"
)

// phase is which part of the answer to BASE_BACKUP is read.
type phase int

const (
	phaseStart       phase = iota // a result of one row: where the backup begins
	phaseTablespaces              // a result: what it consists of
	phaseCopy                     // CopyOutResponse, data, CopyDone
	phaseEnd                      // a result of one row: where it ends
	phaseComplete                 // CommandComplete
	phaseReady                    // ReadyForQuery
)

func (p phase) String() string {
	return [...]string{
		"where the backup begins", "the list of tablespaces", "the data", "where the backup ends", "the end of the command", "the end",
	}[p]
}

// decoder takes the messages of one backup, and allows them in their order only.
type decoder struct {
	sink  Sink
	phase phase

	inResult bool // after a RowDescription
	rows     int  // of the result
	copying  bool // after CopyOutResponse

	start    Start
	archives int  // how many were begun
	manifest bool // it was begun

	result Result
}

// message takes the next message. done means that the backup is complete.
func (d *decoder) message(message pgproto3.BackendMessage) (done bool, err error) {
	switch m := message.(type) {
	case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus, *pgproto3.NotificationResponse:
		return false, nil // they can come at any time; the connection logs notices
	case *pgproto3.ErrorResponse:
		return false, fmt.Errorf("base backup: %w", pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyData:
		if !d.copying {
			break
		}
		return false, d.copyData(m.Data)
	case *pgproto3.RowDescription:
		if d.inResult || d.copying || d.phase != phaseStart && d.phase != phaseTablespaces && d.phase != phaseEnd {
			break
		}
		d.inResult, d.rows = true, 0
		return false, nil
	case *pgproto3.DataRow:
		if !d.inResult {
			break
		}
		d.rows++
		return false, d.row(m.Values)
	case *pgproto3.CommandComplete:
		return false, d.commandComplete()
	case *pgproto3.CopyOutResponse:
		if d.phase != phaseCopy || d.copying {
			break
		}
		d.copying = true
		return false, nil
	case *pgproto3.CopyDone:
		if !d.copying {
			break
		}
		return false, d.copyDone()
	case *pgproto3.ReadyForQuery:
		if d.phase != phaseReady {
			return false, fmt.Errorf("base backup: the server ended its answer where %s was expected", d.phase)
		}
		return true, nil
	}
	return false, fmt.Errorf("base backup: unexpected %T where %s was expected", message, d.phase)
}

// row reads a row of one of the three results.
func (d *decoder) row(values [][]byte) (err error) {
	switch {
	case d.phase == phaseTablespaces:
		return d.tablespace(values)
	case d.rows > 1:
		return fmt.Errorf("base backup: more than one row for %s", d.phase)
	case d.phase == phaseStart:
		d.start.LSN, d.start.Timeline, err = position(values)
	default:
		d.result.LSN, d.result.Timeline, err = position(values)
	}
	if err != nil {
		return fmt.Errorf("base backup: %s: %w", d.phase, err)
	}
	return nil
}

// position reads the row recptr, tli.
func position(values [][]byte) (segment.LSN, segment.TimelineID, error) {
	if len(values) < 2 {
		return 0, 0, fmt.Errorf("a row of %d columns", len(values))
	}
	lsn, err := segment.ParseLSN(string(values[0]))
	if err != nil {
		return 0, 0, err
	}
	timeline, err := strconv.ParseUint(string(values[1]), 10, 32)
	if err != nil || timeline == 0 {
		return 0, 0, fmt.Errorf("%q is not a timeline", values[1])
	}
	return lsn, segment.TimelineID(timeline), nil
}

// tablespace reads the row spcoid, spclocation, size. The data directory has neither
// number nor location.
func (d *decoder) tablespace(values [][]byte) error {
	if len(values) < 3 {
		return fmt.Errorf("base backup: %s: a row of %d columns", d.phase, len(values))
	}
	var t Tablespace
	if values[0] != nil {
		oid, err := strconv.ParseUint(string(values[0]), 10, 32)
		if err != nil || oid == 0 || len(values[1]) == 0 {
			return fmt.Errorf("base backup: %s: number %q, location %q", d.phase, values[0], values[1])
		}
		t.OID, t.Location = uint32(oid), string(values[1])
	}
	for _, other := range d.start.Tablespaces {
		if other.OID == t.OID {
			return fmt.Errorf("base backup: %s has %s twice", d.phase, archiveName(t.OID))
		}
	}
	if values[2] != nil {
		kb, err := strconv.ParseInt(string(values[2]), 10, 64)
		if err != nil || kb < 0 || kb > math.MaxInt64/1024 {
			return fmt.Errorf("base backup: %s: size %q", d.phase, values[2])
		}
		t.Size = kb * 1024
	}
	d.start.Tablespaces = append(d.start.Tablespaces, t)
	return nil
}

// commandComplete ends a result, or the command.
func (d *decoder) commandComplete() error {
	switch {
	case d.phase == phaseComplete:
		d.phase = phaseReady
		return nil
	case !d.inResult:
		return fmt.Errorf("base backup: the server ended something where %s was expected", d.phase)
	case d.rows == 0:
		return fmt.Errorf("base backup: the server did not say %s", d.phase)
	}
	d.inResult = false
	d.phase++
	if d.phase != phaseCopy {
		return nil
	}
	if last := d.start.Tablespaces[len(d.start.Tablespaces)-1]; last.OID != 0 {
		return errors.New("base backup: the list of tablespaces does not end with the data directory")
	}
	return d.sink.Begin(d.start)
}

// What a piece of the copy stream is, by its first byte.
const (
	kindArchive  = 'n'
	kindData     = 'd'
	kindProgress = 'p'
	kindManifest = 'm'
)

func (d *decoder) copyData(data []byte) error {
	if len(data) == 0 {
		return errors.New("base backup: an empty message in the data")
	}
	switch kind, rest := data[0], data[1:]; kind {
	case kindData:
		if d.archives == 0 {
			return errors.New("base backup: data before the name of an archive")
		}
		return d.sink.Data(rest)
	case kindProgress: // how many bytes were sent, which can be seen without
		if len(rest) != 8 {
			return fmt.Errorf("base backup: a report of progress of %d bytes", len(rest))
		}
		return nil
	case kindArchive:
		return d.beginArchive(rest)
	case kindManifest:
		if missing := len(d.start.Tablespaces) - d.archives; missing != 0 || d.manifest {
			return fmt.Errorf("base backup: a manifest where %d archives are missing", missing)
		}
		d.manifest = true
		return d.sink.Manifest()
	default:
		return fmt.Errorf("base backup: unknown message type %q in the data", kind)
	}
}

// beginArchive reads the name and the location of an archive, which must be that of
// the tablespace that is next.
func (d *decoder) beginArchive(data []byte) error {
	name, rest, found := strings.Cut(string(data), "\x00")
	location, rest, ended := strings.Cut(rest, "\x00")
	if !found || !ended || rest != "" {
		return fmt.Errorf("base backup: the name of an archive cannot be read: %q", data)
	}
	if d.manifest || d.archives == len(d.start.Tablespaces) {
		return fmt.Errorf("base backup: the archive %q is one too many", name)
	}
	next := d.start.Tablespaces[d.archives]
	if name != archiveName(next.OID) || location != next.Location {
		return fmt.Errorf("base backup: the archive %q of %q where %q of %q follows", name, location, archiveName(next.OID), next.Location)
	}
	d.archives++
	return d.sink.Archive(next)
}

// archiveName is what a server calls the tar of a tablespace.
func archiveName(oid uint32) string {
	if oid == 0 {
		return "base.tar"
	}
	return fmt.Sprintf("%d.tar", oid)
}

func (d *decoder) copyDone() error {
	if !d.manifest {
		return errors.New("base backup: the server ended the data before the manifest")
	}
	d.copying = false
	d.phase = phaseEnd
	return nil
}
