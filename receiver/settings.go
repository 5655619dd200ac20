package receiver

import (
	"context"
	"strings"
)

// warnSettings tells, once, of settings of the server that do harm together
// with ours. A setting that cannot be read is no reason to stop.
func (s *session) warnSettings(ctx context.Context) {
	if s.r.warned {
		return
	}
	s.r.warned = true
	name := s.r.o.Conn.AppName()
	standbys, err := Show(ctx, s.conn, "synchronous_standby_names")
	if err == nil && !s.r.o.Synchronous && NamesStandby(standbys, name) {
		s.r.log.Warn("commits on the server wait for this receiver, and --synchronous is off: each waits for up to --flush-interval; give --synchronous",
			"synchronous_standby_names", standbys, "application_name", name)
	}
	if s.r.o.Slot == "" {
		return
	}
	keep, err := Show(ctx, s.conn, "max_slot_wal_keep_size")
	if err == nil && keep == "-1" {
		s.r.log.Warn("max_slot_wal_keep_size is unlimited: while this receiver is away, its slot can fill the server's disk; set it to what that disk can spare", "slot", s.r.o.Slot)
	}
}

// NamesStandby says whether a value of synchronous_standby_names means an
// application. The names are compared as PostgreSQL does, without case; what
// stands around them (FIRST, ANY, numbers) is taken for names as well, which no
// application has.
func NamesStandby(setting, application string) bool {
	separates := func(r rune) bool { return strings.ContainsRune(`," ()`+"\t\n", r) }
	for _, word := range strings.FieldsFunc(setting, separates) {
		if word == "*" || strings.EqualFold(word, application) {
			return true
		}
	}
	return false
}
