package status

import (
	"errors"
	"fmt"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// problems says in words what is wrong, and what to do about it.
func (g *gatherer) problems() {
	for i := range g.chain.Branches {
		g.historyProblem(&g.chain.Branches[i])
	}
	for _, gap := range g.report.Gaps {
		g.gapProblem(gap)
	}
	for _, m := range g.report.Marks {
		if m.Cleared {
			continue
		}
		g.problem(
			fmt.Sprintf("timeline %d is damaged at %s, in %s, as the server sent it: %s", m.Timeline, m.LSN, m.Segment, m.Reason),
			"A recovery along this timeline ends there. Take a new base backup, and look for the cause on the server.")
	}
	g.damagedFindings(g.gapsDamage)
	g.damagedFindings(g.marksDamage)
	g.segmentProblems()
	g.indexProblems()
}

// indexProblems tells of the index, which is only a cache.
func (g *gatherer) indexProblems() {
	if g.indexless != nil {
		g.problem(g.indexless.Error(), "Nothing is missing from this report for it, which only took longer. See that the store answers.")
	}
	for _, d := range g.damagedIndex {
		g.problem(d.Error(), archive.AdviceIndex)
	}
}

func (g *gatherer) problem(what, do string) {
	g.report.Problems = append(g.report.Problems, Problem{What: what, Do: do})
}

func (g *gatherer) historyProblem(b *archive.Branch) {
	if b.Problem == nil || b.Arriving {
		return
	}
	file := segment.HistoryName(b.Timeline)
	do := fmt.Sprintf("Make sure that %s in the archive can be read and is the one in the server's pg_wal.", file)
	if errors.Is(b.Problem, archive.ErrNoHistory) {
		do = fmt.Sprintf("No recovery finds its way to this timeline. Put %s from the server's pg_wal back into the archive.", file)
	}
	g.problem(fmt.Sprintf("timeline %d: %v", uint32(b.Timeline), b.Problem), do)
}

func (g *gatherer) gapProblem(gap Gap) {
	what := fmt.Sprintf("timeline %d has a gap from %s to %s: %s", gap.Timeline, gap.Start, gap.End, segments(gap.Range))
	if gap.Arriving {
		return
	}
	if gap.Accepted {
		g.problem(what+", and it was accepted ("+gap.Reason+")",
			fmt.Sprintf("A base backup from before %s cannot be recovered beyond it: keep one that was begun at %s or later.", gap.Start, gap.End))
		return
	}
	g.problem(what, "If the server or a receiver's directory still has this WAL, a restart of walrecv receive fills the gap. "+
		"Otherwise take a new base backup.")
}

// segments says which segments a range has.
func segments(r Range) string {
	if r.Segments == 1 {
		return "the segment " + r.First
	}
	return fmt.Sprintf("%d segments, %s to %s", r.Segments, r.First, r.Last)
}

func (g *gatherer) segmentProblems() {
	all := g.report.Segments
	if all.Faulty > 0 {
		g.problem(fmt.Sprintf("%s with WAL that is not sound, first %s", count(all.Faulty, "segment"), g.firstFaulty),
			"A recovery ends there. walrecv verify --deep tells more; take a new base backup.")
	}
	if all.Encrypted > 0 && !g.blind {
		g.problem(fmt.Sprintf("%s: encrypted, and no identity that was given fits", count(all.Encrypted, "segment")),
			"What stands in them is missing from this report: times, restore points, whether they are sound. Give the identity with --decrypt-with.")
	}
	if all.Unreadable > 0 {
		g.problem(fmt.Sprintf("%s cannot be read, first: %s", count(all.Unreadable, "segment"), g.firstUnreadable),
			"A recovery stops there. Repair the archive from a copy of it, or take a new base backup.")
	}
	if all.Total == 0 {
		g.problem("no complete segment is archived yet",
			"They come once walrecv receive runs with --archive, each as soon as the server has filled it.")
	}
}

// damagedFindings reports gaps and marks that cannot be read: what they said is
// not in the report.
func (g *gatherer) damagedFindings(err error) {
	if err == nil {
		return
	}
	g.problem(err.Error(), "What it says is missing from this report. Repair the archive from a copy of it.")
}

// count is a number of things, in words.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
