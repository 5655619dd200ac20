package restore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/segment"
)

// Answer is what one call tells PostgreSQL.
type Answer struct {
	Code    int    // the exit code, one of those below
	Message string // one line for standard error; empty for 0 and 1
}

// The exit codes. None but 1 is from 2 to 125, which PostgreSQL takes for 1.
const (
	CodeDelivered     = 0
	CodeAbsent        = 1
	CodeUnknown       = 200
	CodeMisconfigured = 201
	CodeDamaged       = 202
)

// verdict is what a look has found out.
type verdict int

const (
	delivered     verdict = iota // the file is in its place
	absent                       // proven, or the server's own copy is as good
	hole                         // absent, but something later is there
	damaged                      // there, but not what it should be
	locked                       // there, but encrypted for somebody else
	noIdentity                   // a place says nothing about whose it is
	unknown                      // no answer
	withheld                     // a noted file must come first
	misconfigured                // another cluster's place, or a senseless request
)

// finding is a verdict with what led to it. err is nil for delivered and absent.
type finding struct {
	verdict verdict
	err     error
}

// problem is an error whose verdict is known where it comes up.
type problem struct {
	verdict verdict
	err     error
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

// problemf makes a problem.
func problemf(v verdict, format string, args ...any) error {
	return &problem{v, fmt.Errorf(format, args...)}
}

// judge says what an error means. One that says nothing about a file or a place
// is no answer.
func judge(err error) finding {
	var (
		p       *problem
		corrupt *segment.CorruptError
		coded   *codec.CorruptError
		object  *archive.DamagedError
		format  *archive.FormatError
	)
	switch {
	case errors.As(err, &p):
		return finding{p.verdict, err}
	case errors.As(err, &format):
		return finding{misconfigured, err}
	case errors.Is(err, archive.ErrEncrypted):
		return finding{locked, fmt.Errorf("%w; see --decrypt-with", err)}
	case errors.As(err, &corrupt), errors.As(err, &coded), errors.As(err, &object),
		// An identity that is not that of its place.
		errors.Is(err, segment.ErrWrongCluster):
		return finding{damaged, err}
	}
	return finding{unknown, err}
}

// troubles collects what went wrong in the places of one look. The zero value
// has none.
type troubles struct {
	worst finding
}

// add remembers f if it weighs more than what was there: first what needs a
// human, then what another try may change, then what it will not.
func (t *troubles) add(f finding) {
	if f.verdict > t.worst.verdict {
		t.worst = f
	}
}

func (t *troubles) any() bool { return t.worst.verdict > absent }

// decide turns the finding of a recovery, or what stops a standby too, into the
// answer. It is the only place that knows codes and verdicts.
func decide(file string, f finding) Answer {
	code := CodeUnknown
	switch f.verdict {
	case delivered:
		return Answer{Code: CodeDelivered}
	case absent:
		return Answer{Code: CodeAbsent}
	case misconfigured, noIdentity, locked:
		code = CodeMisconfigured
	case damaged, hole:
		code = CodeDamaged
	}
	return Answer{Code: code, Message: oneLine(file, f.err)}
}

// oneLine is the text of an error in one line, after the file that was asked
// for.
func oneLine(file string, err error) string {
	return fmt.Sprintf("restore %s: %s", strings.Join(strings.Fields(file), " "), flatten(err))
}

// flatten is the text of an error without line breaks.
func flatten(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
