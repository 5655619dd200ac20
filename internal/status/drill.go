package status

import (
	"cmp"
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
			drillHelp(last.Failures))
	}
	return nil
}

// drillHelps say what to do after a drill that failed in a way that is not the
// archive's for certain. The words are those of internal/drill.
var drillHelps = map[string]string{
	"no_backup":   "Nothing can be restored without a base backup. Make one with walrecv backup create.",
	"check_false": "The archive was restored, but not all that was looked for was there. Run walrecv drill again, which says what was not.",
	"check_error": "The archive was restored, but a check could not be made: correct the check, or find out what it lacks. Run walrecv drill again, which says what the server said.",
	"amcheck":     "The archive was restored, but pg_amcheck found something. Run walrecv drill again, which says what, and look for it on the server, too.",
	"checksums":   "The archive was restored, but pages do not have their checksums. Run walrecv drill again, which says which, and look at the server, too.",
	"stop_failed": "The archive was restored, but the server did not shut down in order. Run walrecv drill again, which says what the server said.",
}

// drillHelp says what to do after a drill that failed. Of several failures the first
// that can mean that nothing is restored is what counts.
func drillHelp(failures []string) string {
	help := ""
	for _, kind := range failures {
		if drillHelps[kind] == "" {
			help = ""
			break
		}
		if help == "" {
			help = drillHelps[kind]
		}
	}
	return cmp.Or(help, "The archive may not restore. Run walrecv drill again, which says what is wrong.")
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
