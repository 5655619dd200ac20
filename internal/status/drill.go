package status

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
)

// drill adds what the last drill found.
func (g *gatherer) drill(ctx context.Context, a *archive.Archive) error {
	last, err := a.LastDrill(ctx)
	var damaged *archive.DamagedError
	var format *archive.FormatError
	switch {
	case errors.As(err, &damaged), errors.As(err, &format):
		g.problem(err.Error(), "What this drill found is not known. Run walrecv drill again.")
	case err != nil:
		return err
	}
	if g.report.LastDrill = last; last != nil && !last.Success {
		g.problem(fmt.Sprintf("the last drill, of %s, failed%s", cell(last.Started), failures(last)),
			"The archive may not restore. Run walrecv drill again, which says what is wrong.")
	}
	return nil
}

// failures says what was wrong in a drill.
func failures(d *archive.DrillResult) string {
	if len(d.Failures) == 0 {
		return ""
	}
	return ": " + strings.Join(d.Failures, ", ")
}

// drill says when a restore was last tried.
func (t *texter) drill(r *Report) {
	d := r.LastDrill
	switch {
	case d == nil && len(r.Backups) == 0:
	case d == nil:
		t.line("last drill", "none: walrecv drill proves that the archive restores")
	case !d.Success:
		t.line("last drill", cell(d.Started)+", failed"+failures(d))
	default:
		took := time.Duration(d.RestoreSeconds * float64(time.Second)).Round(time.Second / 10)
		t.line("last drill", fmt.Sprintf("%s, restored %s up to %s in %s", cell(d.Started), d.Backup, d.ReachedLSN, took))
	}
}
