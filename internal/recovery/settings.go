package recovery

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Settings is what a restored data directory tells the server that is started on it.
type Settings struct {
	// RestoreCommand is where WAL comes from, see [Command]. Empty: only from
	// pg_wal, or from the primary.
	RestoreCommand string

	Target Target
	Action string // recovery_target_action: pause (also if empty), promote or shutdown

	// Standby: the server goes on until it is promoted, and streams from
	// PrimaryConninfo if that is not empty, by the slot if that is not.
	Standby         bool
	PrimaryConninfo string
	Slot            string

	// KeepArchiving leaves archive_mode as the original had it. A copy that archives
	// puts its WAL where the original's is.
	KeepArchiving bool
}

// setting is one line of postgresql.auto.conf.
type setting struct{ name, value string }

// targets are the settings of which PostgreSQL takes one only.
var targets = map[TargetKind]string{
	Immediate: "recovery_target",
	Time:      "recovery_target_time",
	LSN:       "recovery_target_lsn",
	XID:       "recovery_target_xid",
	Name:      "recovery_target_name",
}

// lines are all settings, in order. What is not wanted is there too, as it may have
// been set where the backup was taken, by an earlier restore or on a standby.
func (s Settings) lines() ([]setting, error) {
	lines := []setting{
		{"restore_command", s.RestoreCommand},
		// These would be run for another server: one could move its address here, or
		// remove WAL that only this one does not need.
		{"archive_cleanup_command", ""},
		{"recovery_end_command", ""},
		{"primary_conninfo", s.PrimaryConninfo},
		{"primary_slot_name", s.Slot},
	}
	if !s.Standby {
		// A delay is a standby's, but it would hold up every recovery, and what was
		// restored to be a primary has nobody yet who could confirm its commits.
		lines = append(lines, setting{"recovery_min_apply_delay", "0"}, setting{"synchronous_standby_names", ""})
	}
	if !s.KeepArchiving {
		lines = append(lines, setting{"archive_mode", "off"})
	}
	target, err := s.target()
	return append(lines, target...), err
}

// target are the settings that say where recovery ends. Those that are not wanted
// come first: PostgreSQL sets one after the other, and refuses even an empty one
// after another one that is not empty.
func (s Settings) target() ([]setting, error) {
	action := s.Action
	if action == "" {
		action = "pause"
	}
	lines := []setting{
		{"recovery_target_timeline", s.Target.Timeline.String()},
		{"recovery_target_action", action},
		{"recovery_target_inclusive", "on"},
	}
	for kind := Immediate; kind <= Name; kind++ {
		if kind != s.Target.Kind {
			lines = append(lines, setting{targets[kind], ""})
		}
	}
	if s.Target.Kind == Latest {
		return lines, nil
	}
	name, known := targets[s.Target.Kind]
	value := s.Target.value()
	if !known || value == "" {
		return nil, fmt.Errorf("no recovery target: %+v", s.Target)
	}
	return append(lines, setting{name, value}), nil
}

// value is the target as the server reads it.
func (t Target) value() string {
	switch t.Kind {
	case Immediate:
		return "immediate"
	case Time:
		// The server rounds what is finer, which could be up.
		return t.Time.UTC().Truncate(time.Microsecond).Format("2006-01-02 15:04:05.999999-07")
	case LSN:
		return t.LSN.String()
	case XID:
		return fmt.Sprint(t.XID)
	case Name:
		return t.Name
	}
	return ""
}

// text is what is appended to postgresql.auto.conf.
func (s Settings) text() (string, error) {
	lines, err := s.lines()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# Written by walrecv when this data directory was restored.\n")
	for _, l := range lines {
		quoted, err := confQuote(l.value)
		if err != nil {
			return "", fmt.Errorf("%s: %w", l.name, err)
		}
		b.WriteString(l.name + " = " + quoted + "\n")
	}
	return b.String(), nil
}

// confQuote quotes a value for a configuration file of PostgreSQL. A line feed could
// be written, but not be read any more after the next ALTER SYSTEM, which writes all
// values of postgresql.auto.conf as they are.
func confQuote(value string) (string, error) {
	if strings.ContainsAny(value, "\x00\n") {
		return "", errors.New("a line feed or a zero byte cannot stand in the server's configuration")
	}
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(value) + "'", nil
}
