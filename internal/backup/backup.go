package backup

import (
	"errors"
	"fmt"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// Start is what is known of a base backup when it begins.
type Start struct {
	ID       string             `json:"id"`
	SystemID uint64             `json:"system_identifier,string"`
	Major    int                `json:"postgresql_major"`
	Timeline segment.TimelineID `json:"timeline"`
	StartLSN segment.LSN        `json:"start_lsn"` // of the checkpoint's redo: recovery begins there
	Label    string             `json:"label"`
	Started  time.Time          `json:"started"` // by the clock of who makes the backup
	From     From               `json:"from"`
}

// From says what kind of a server a backup is of.
type From string

// The kinds of servers.
const (
	FromPrimary From = "primary"
	FromStandby From = "standby"
)

// Backup is a base backup that is good.
type Backup struct {
	Start
	EndLSN        segment.LSN        `json:"end_lsn"` // a recovery is consistent from here on
	EndTimeline   segment.TimelineID `json:"end_timeline"`
	Finished      time.Time          `json:"finished"` // when the server had said EndLSN, by the clock of who makes the backup
	ServerVersion string             `json:"server_version"`
	Tablespaces   []Tablespace       `json:"tablespaces"` // the data directory, with OID 0, is the last one
	Objects       []archive.Stored   `json:"objects"`     // in the order in which they were put; the manifest is the last one
	PlainSize     int64              `json:"plain_size"`  // of all objects, bytes
	StoredSize    int64              `json:"stored_size"` // of all objects, bytes
}

// Tablespace is a directory that was backed up.
type Tablespace struct {
	OID      uint32 // 0: the data directory
	Location string // as the server has it, of any encoding; "" for the data directory
	Size     int64  // what the server estimated, bytes
}

// Tar is the name of the tablespace's tar, as in [archive.TarFile].
func (t Tablespace) Tar() string {
	if t.OID == 0 {
		return archive.BaseTar
	}
	return fmt.Sprint(t.OID)
}

// Pieces lists the objects of a tablespace's tar, in order.
func (b *Backup) Pieces(t Tablespace) []archive.Stored {
	var pieces []archive.Stored
	for _, o := range b.Objects {
		if tar, _, ok := archive.ParseTarFile(o.Name()); ok && tar == t.Tar() {
			pieces = append(pieces, o)
		}
	}
	return pieces
}

// Manifest is the object of the server's manifest.
func (b *Backup) Manifest() archive.Stored {
	for _, o := range b.Objects {
		if o.Name() == archive.BackupManifest {
			return o
		}
	}
	return archive.Stored{} // check lets no such backup pass
}

// State says what a base backup is good for.
type State string

// The states of a base backup.
const (
	// Good says that it was completed, and found whole then.
	Good State = "good"
	// Running says that it was not completed, and that something was added to it
	// within [Patience]: it holds its WAL.
	Running State = "running"
	// Abandoned says that it was not completed, and that nothing was added for longer.
	Abandoned State = "abandoned"
	// Damaged says that what it is cannot be known: what says so cannot be read, or
	// is of a later version.
	Damaged State = "damaged"
)

// Patience is how long nothing must have been added to a backup that is not good
// until it counts as abandoned.
const Patience = 24 * time.Hour

// Entry is a base backup, good or not.
type Entry struct {
	Start               // of a damaged one perhaps nothing but the ID
	Backup    *Backup   // nil: it is not good
	State     State     //
	Damage    error     // what is wrong with a damaged one
	Lacks     []string  // which objects of a good one are not there as they were put, for people
	LastAdded time.Time // when something was added to it last, by the store's clock; zero: not known
	Stored    int64     // bytes of all that is there of it
}

// Whole tells whether the backup is good, and nothing of it is missing in the archive.
func (e *Entry) Whole() bool { return e.Backup != nil && len(e.Lacks) == 0 }

// Wrong says why a backup that was completed cannot be restored all the same; "" if
// nothing is known to be wrong, or if it was not completed.
func (e *Entry) Wrong() string {
	switch n := len(e.Lacks); {
	case n > 1:
		return fmt.Sprintf("%s (and %d more)", e.Lacks[0], n-1)
	case n == 1:
		return e.Lacks[0]
	case e.Damage != nil:
		return e.Damage.Error()
	}
	return ""
}

// check says what keeps a start from being one of the backup with an ID.
func (s *Start) check(id string) error {
	switch {
	case s.ID != id:
		return fmt.Errorf("it is of the backup %q", s.ID)
	case s.Timeline == 0 || s.StartLSN == 0:
		return errors.New("it does not say where the backup begins")
	case s.Started.IsZero():
		return errors.New("it does not say when the backup began")
	}
	return nil
}

// check says what keeps a backup from being one that can be restored, as far as it
// says itself.
func (b *Backup) check(id string) error {
	if err := b.Start.check(id); err != nil {
		return err
	}
	switch {
	case b.EndLSN < b.StartLSN || b.EndTimeline < b.Timeline:
		return errors.New("it ends before it begins")
	case b.Finished.IsZero():
		return errors.New("it does not say when the backup ended")
	case b.Manifest().File == "":
		return errors.New("it has no manifest")
	}
	return b.checkTars()
}

// checkTars says what keeps the pieces from being those of the tablespaces' tars.
func (b *Backup) checkTars() error {
	pieces := 0
	seen := map[uint32]bool{}
	for _, t := range b.Tablespaces {
		if seen[t.OID] || (t.OID == 0) != (t.Location == "") {
			return fmt.Errorf("it has an impossible tablespace %d at %q", t.OID, t.Location)
		}
		seen[t.OID] = true
		of := b.Pieces(t)
		for i, o := range of {
			if want := archive.TarFile(t.Tar(), i+1); o.Name() != want {
				return fmt.Errorf("it lacks %s", want)
			}
		}
		if len(of) == 0 {
			return fmt.Errorf("it lacks the tar of tablespace %d", t.OID)
		}
		pieces += len(of)
	}
	switch {
	case !seen[0]:
		return errors.New("it lacks the data directory")
	case pieces+1 != len(b.Objects):
		return errors.New("it has objects that are of no tablespace")
	}
	return nil
}
