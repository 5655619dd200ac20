package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"github.com/walrecv/walrecv/internal/monitor"
	"github.com/walrecv/walrecv/internal/status"
)

// head is what stands in front of the members of a report.
type head struct {
	Live         monitor.Live `json:"live"`
	AsOf         time.Time    `json:"as_of,omitzero"` // when the archive was looked at
	ArchiveError string       `json:"archive_error,omitzero"`
}

// status is what the archive holds, and the receiver at this moment.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	var known look
	if s.archive != nil {
		known = s.archive.get(r.Context(), s.monitor.Live().Timeline)
	}
	h := head{Live: s.monitor.Live(), AsOf: known.asOf.UTC()}
	if known.err != nil {
		h.ArchiveError = known.err.Error()
	}
	body, err := json.Marshal(h)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if known.report != nil { // one document of both
		body = append(bytes.TrimSuffix(body, []byte("}")), ',')
		body = append(body, bytes.TrimPrefix(known.report, []byte("{"))...)
	}
	write(w, http.StatusOK, "application/json", append(body, '\n'))
}

// The longest lists of an answer.
const (
	mostEntries   = 200
	mostTimelines = 50
	mostRanges    = 50 // of a timeline
)

// shortened is a report whose size is bounded.
type shortened struct {
	*status.Report
	LeftOut map[string]int `json:"left_out,omitempty"` // how many of a list
}

// shorten leaves the newest entries of long lists, and the first problems. walrecv status
// has all.
func shorten(r *status.Report) shortened {
	b := shortened{&status.Report{}, map[string]int{}}
	*b.Report = *r
	b.Backups = newest(b, "backups", r.Backups, mostEntries)
	b.Recoverable = newest(b, "recoverable", r.Recoverable, mostEntries)
	b.Gaps = newest(b, "gaps", r.Gaps, mostEntries)
	b.Marks = newest(b, "marks", r.Marks, mostEntries)
	b.RestorePoints = newest(b, "restore_points", r.RestorePoints, mostEntries)
	if surplus := len(r.Problems) - mostEntries; surplus > 0 {
		b.Problems, b.LeftOut["problems"] = r.Problems[:mostEntries], surplus
	}
	b.Timelines = newest(b, "timelines", r.Timelines, mostTimelines)
	for i, t := range b.Timelines {
		if surplus := len(t.Ranges) - mostRanges; surplus > 0 {
			b.Timelines[i].Ranges = t.Ranges[surplus:] // the report is nobody else's
			b.LeftOut["ranges"] += surplus
		}
	}
	return b
}

// newest leaves the end of a list, and notes how much was left out.
func newest[T any](b shortened, name string, list []T, most int) []T {
	surplus := len(list) - most
	if surplus <= 0 {
		return list
	}
	b.LeftOut[name] = surplus
	return list[surplus:]
}
