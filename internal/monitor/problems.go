package monitor

import "fmt"

// Problem is something that is wrong now, for people.
type Problem struct {
	What string `json:"what"`
	Do   string `json:"do"`
}

// spoolFull is the part of --spool-max from which on it is told.
const spoolFull = 0.8

// problems says what is wrong and what to do about it, in the words of readiness where it
// says the same, and with why, which readiness does not say.
func (m *Monitor) problems(s State, l *Live) []Problem {
	problems := []Problem{}
	add := func(what, do string) { problems = append(problems, Problem{what, do}) }
	switch streaming := l.Status[0]; {
	case !s.PausedSince.IsZero():
		add(streaming, "The archive takes less than the server writes, or does not answer: the log says which. Until there is room the server keeps its WAL. If the disk has room, raise --spool-max.")
	case streaming == statusStreaming || s.ForSlot:
	case s.Streaming:
		add(streaming, "WAL comes more slowly than the server writes it. Look at the network, and at how long syncs of the directory take (walrecv_sync_seconds).")
	default:
		if s.Waiting != "" {
			streaming += ": " + s.Waiting
		}
		add(streaming, "It is tried again by itself. See that the server runs and lets this receiver in: walrecv check says what is in the way. The server keeps the WAL for it in its slot; without a slot it may remove it.")
	}
	if archiving := l.archivingStatus; archiving != "" && (s.ArchiveTrouble != "" || *l.OldestUnarchived > m.readyLag().Seconds()/2) {
		if s.ArchiveTrouble != "" {
			archiving += ": " + s.ArchiveTrouble
		}
		add(archiving, "What the archive does not hold is on the server and on this machine only. See that the archive answers and takes WAL: walrecv check says what is in the way. walrecv goes on by itself.")
	}
	if l.Slot != nil && l.Slot.Danger() != "" {
		do := "See why this receiver is behind or away. If the server's disk has room, raise max_slot_wal_keep_size there."
		if l.Slot.Status == SlotLost || l.Slot.Status == SlotMissing {
			do = "If the server does not have the WAL any more, the receiver ends and says what is missing: take a new base backup then. With --ensure-slot it makes the slot anew."
		}
		add(l.Slot.Danger(), do)
	}
	if l.SpoolBytes != nil && s.PausedSince.IsZero() && l.SpoolMax > 0 && float64(*l.SpoolBytes) > spoolFull*float64(l.SpoolMax) {
		add(fmt.Sprintf("the directory holds %d %% of --spool-max", 100**l.SpoolBytes/l.SpoolMax),
			"When it is full, nothing more is read from the server. See that the archive takes WAL; if the disk has room, raise --spool-max.")
	}
	if l.Gaps != nil && *l.Gaps > 0 && !m.o.Archive { // of an archive's, its own report tells more
		add(fmt.Sprintf("WAL is missing, and that was accepted (ranges: %d)", *l.Gaps),
			"A base backup from before such a gap cannot be recovered beyond it: take a new one.")
	}
	if s.VerifyFailures > 0 {
		add(fmt.Sprintf("WAL that came was not sound (places since the start: %d)", s.VerifyFailures),
			"The log says where. What came sound the second time is in order. Else a recovery ends there: take a new base backup, and look for the cause on the server.")
	}
	return problems
}
