package verify

import (
	"fmt"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

const adviceStore = "nothing is known of it: see that the store answers, then verify again"

// untilThen says what a segment that is not there, or not sound, means.
func (v *Verifier) untilThen(n segment.Name) string {
	return fmt.Sprintf("; recovery past %s on timeline %d is not possible until then", n.Start(v.id.SegmentSize), uint32(n.Timeline))
}

// adviceMissing says what to do about a segment that is not there.
func (v *Verifier) adviceMissing(n segment.Name) string {
	return archive.AdviceMissing + v.untilThen(n)
}

// adviceDamaged says what to do about one that is not what it should be.
func (v *Verifier) adviceDamaged(n segment.Name) string {
	return archive.AdviceDamaged + v.untilThen(n)
}

// at is a finding about a segment, whole or partial.
func (v *Verifier) at(kind Kind, o object, message, advice string) Finding {
	return Finding{
		Kind: kind, Object: o.key, Timeline: o.name.Timeline, LSN: o.name.Start(v.id.SegmentSize),
		Message: message, Advice: advice,
	}
}

// forged is the finding that a fork is not where the history has it.
func (v *Verifier) forged(t segment.TimelineID, fork segment.LSN, why string) Finding {
	return Finding{
		Kind: KindHistory, Object: archive.Object{System: v.id.SystemID, Kind: archive.KindHistory, Timeline: t}.Key(),
		Timeline: t, LSN: fork,
		Message: fmt.Sprintf("timeline %d did not begin at %s: %s", uint32(t), fork, why),
		Advice: fmt.Sprintf("compare %s with the one in the pg_wal of a server on that timeline; until then recovery to timeline %d can take the wrong way",
			segment.HistoryName(t), uint32(t)),
	}
}
