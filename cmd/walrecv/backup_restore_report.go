package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/walrecv/walrecv/internal/extract"
	"github.com/walrecv/walrecv/internal/recovery"
)

// restoreProgress is how far a restore is. It is safe for concurrent use.
type restoreProgress struct {
	began       time.Time
	done, total atomic.Int64 // bytes of files; a total of 0 is not known yet
}

func (p *restoreProgress) set(done, total int64) {
	p.total.Store(total)
	p.done.Store(done)
}

// line is for a terminal.
func (p *restoreProgress) line(now time.Time) string {
	if p.total.Load() == 0 {
		return "reading the backup manifest"
	}
	return transferLine(p.done.Load(), p.total.Load(), now.Sub(p.began))
}

// tell is for a log.
func (p *restoreProgress) tell(now time.Time, log *slog.Logger) {
	done, total := p.done.Load(), p.total.Load()
	attrs := []any{"done_bytes", done, "total_bytes", total}
	if seconds := now.Sub(p.began).Seconds(); seconds > 0 && done > 0 {
		rate := float64(done) / seconds
		attrs = append(attrs, "bytes_per_second", int64(rate), "seconds_left", int64(math.Ceil(float64(max(0, total-done))/rate)))
	}
	log.Info("the restore goes on", attrs...)
}

// tell says what was restored, and what to do next. noWAL says why the server would get
// no WAL; empty: it will.
func (r *restoring) tell(w io.Writer, result extract.Result, owner *account, noWAL string) error {
	b := r.plan.Backup
	var text strings.Builder
	fmt.Fprintf(&text, "base backup %s of %s is restored into %s: %s in %d files, each as its manifest says%s\n",
		b.ID, b.Started.UTC().Format("2006-01-02 15:04:05 UTC"), escaped(r.config.targetDir), roughSize(result.Bytes), result.Files, r.reread())
	for _, oid := range slices.Sorted(maps.Keys(result.Tablespaces)) {
		fmt.Fprintf(&text, "tablespace %d is in %s\n", oid, escaped(result.Tablespaces[oid]))
	}
	if r.plan.Note != "" {
		fmt.Fprintf(&text, "note: %s\n", r.plan.Note)
	}
	if noWAL == "" {
		fmt.Fprintf(&text, "next: start a PostgreSQL %d server on it%s; %s\n", b.Major, as(owner), r.outlook())
	} else {
		fmt.Fprintf(&text, "not yet: a PostgreSQL %d server that is started on it will not get its WAL: %s\n", b.Major, noWAL)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (r *restoring) reread() string {
	if r.config.verify {
		return ", also when read back from the disk"
	}
	return ""
}

func as(owner *account) string {
	if owner == nil {
		return ""
	}
	return ", as user " + owner.name
}

// outlook says what the server will do.
func (r *restoring) outlook() string {
	switch {
	case r.config.slot != "":
		return fmt.Sprintf("it replays the WAL in its pg_wal (%s to %s), then streams by the slot %s, for which the primary must still have the WAL from %s on",
			r.laid.First, r.laid.Last, r.config.slot, r.laid.Resume)
	case r.config.primaryConninfo != "":
		return "it follows from the archive and from its primary until it is promoted"
	case r.config.standby:
		return "it follows from the archive until it is promoted"
	}
	along := fmt.Sprintf("along timeline %d", uint32(r.plan.Timeline))
	if r.plan.Target.Kind == recovery.Latest {
		return fmt.Sprintf("it recovers %s to the end of the WAL (now %s), and then opens for writing", along, r.plan.End)
	}
	then := map[string]string{
		actionPause:    "and waits there: look, then call pg_wal_replay_resume() to open it for writing",
		actionPromote:  "and then opens for writing",
		actionShutdown: "and then shuts down",
	}[r.config.target.action]
	return fmt.Sprintf("it recovers %s to %s %s", along, r.plan.Target, then)
}
