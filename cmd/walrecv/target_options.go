package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

// targetOptions say which base backup is restored, and up to which point WAL is
// replayed.
type targetOptions struct {
	backup    string // ID, or latestBackup
	time      time.Time
	lsn       segment.LSN
	xid       uint32
	name      string
	immediate bool
	timeline  recovery.Timeline
	action    string
}

// What --target-action may be.
const (
	actionPause   = "pause"
	actionPromote = "promote"
)

// addTargetOptions declares them; the first one of the actions is the default.
func addTargetOptions(fs *pflag.FlagSet, o *targetOptions, actions ...string) {
	o.backup, o.action = latestBackup, actions[0]
	fs.Var(textValue(&o.backup), "backup", "restore the base backup `ID`, or latest: the newest one that fits")
	fs.Var(parsed[time.Time]{&o.time, "time", parseTargetTime, formatTargetTime}, "target-time", "recover up to `TIME`, which needs an offset, as in 2026-01-31 12:00:00+00")
	fs.Var(parsed[segment.LSN]{&o.lsn, "lsn", parseTargetLSN, formatTargetLSN}, "target-lsn", "recover up to the WAL position `LSN`")
	fs.Var(parsed[uint32]{&o.xid, "transaction", recovery.ParseXID, formatXID}, "target-xid", "recover up to the end of the transaction `XID`")
	fs.Var(parsed[string]{&o.name, kindString, parsePointName, func(s string) string { return s }}, "target-name", "recover up to the restore point `NAME`")
	boolVar(fs, &o.immediate, "target-immediate", "", "recover up to the end of the base backup")
	fs.Var(parsed[recovery.Timeline]{&o.timeline, "timeline", recovery.ParseTimeline, recovery.Timeline.String}, "target-timeline", "recover along the timeline `T`: latest, current (the base backup's), or a number")
	fs.Var(choiceValue(&o.action, actions...), "target-action", "what the server does at the target: `ACTION` is "+strings.Join(actions, " or "))
	// What is for one restore is said for it. In a file it would change all of them.
	onlyOnCommandLine(fs, "backup", "target-time", "target-lsn", "target-xid", "target-name", "target-immediate", "target-timeline", "target-action")
}

// target is what they come to. Only one of them can be the point.
func (o *targetOptions) target() (recovery.Target, error) {
	t := recovery.Target{Time: o.time, LSN: o.lsn, XID: o.xid, Name: o.name, Timeline: o.timeline}
	var given []string
	for _, p := range []struct {
		option string
		given  bool
		kind   recovery.TargetKind
	}{
		{"--target-time", !o.time.IsZero(), recovery.Time},
		{"--target-lsn", o.lsn != 0, recovery.LSN},
		{"--target-xid", o.xid != 0, recovery.XID},
		{"--target-name", o.name != "", recovery.Name},
		{"--target-immediate", o.immediate, recovery.Immediate},
	} {
		if p.given {
			given, t.Kind = append(given, p.option), p.kind
		}
	}
	if len(given) > 1 {
		return t, usageError("%s cannot be given together: there is one point to recover to", strings.Join(given, " and "))
	}
	return t, nil
}

// parseTargetLSN refuses what scripts have in place of a position that is not set, which
// would be no target at all.
func parseTargetLSN(text string) (segment.LSN, error) {
	at, err := segment.ParseLSN(text)
	if err == nil && at == 0 {
		return 0, errors.New("0/0 is not a position in the WAL")
	}
	return at, err
}

// parseTargetTime does so for times.
func parseTargetTime(text string) (time.Time, error) {
	t, err := recovery.ParseTime(text)
	if err == nil && t.IsZero() {
		return t, errors.New("no transaction ended then")
	}
	return t, err
}

func parsePointName(text string) (string, error) { return text, recovery.CheckName(text) }

func formatTargetTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

func formatTargetLSN(l segment.LSN) string {
	if l == 0 {
		return ""
	}
	return l.String()
}

func formatXID(x uint32) string {
	if x == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(x), 10)
}
