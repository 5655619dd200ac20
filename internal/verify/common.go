package verify

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// A timeline begins with a copy of its parent's bytes, from the start of the
// segment up to the fork. Each by itself can be sound and they can differ all the
// same: then they are of servers that went different ways before the fork.

// branching is a fork inside of a segment.
type branching struct {
	parent, child segment.TimelineID
	at            segment.LSN
}

// copies are the objects with the bytes in front of one fork, by what these are.
type copies map[archive.Digest][]object

// forks lists the forks of which an object of a segment has the bytes in front.
func (s *survey) forks(n segment.Name, size segment.Size) (list []branching) {
	for _, b := range s.chain.Branches {
		inside := size.Number(b.Fork) == n.Number && size.Offset(b.Fork) > 0
		if b.Parent != 0 && inside && (n.Timeline == b.Parent || n.Timeline == b.Timeline) {
			list = append(list, branching{parent: b.Parent, child: b.Timeline, at: b.Fork})
		}
	}
	return list
}

// prefix is the digest of the bytes in front of a fork.
type prefix struct {
	branching
	sum hash.Hash
}

func newPrefixes(forks []branching) (list []prefix) {
	for _, b := range forks {
		list = append(list, prefix{b, sha256.New()})
	}
	return list
}

// add adds bytes of a segment, which begin at a position.
func (p *prefix) add(at segment.LSN, data []byte) {
	if at < p.at {
		p.sum.Write(data[:min(uint64(len(data)), uint64(p.at-at))])
	}
}

// keep notes what an object that was read whole has in front of forks.
func (v *Verifier) keep(o object, list []prefix) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, p := range list {
		if v.prefixes[p.branching] == nil {
			v.prefixes[p.branching] = copies{}
		}
		sum := archive.Digest(p.sum.Sum(nil))
		v.prefixes[p.branching][sum] = append(v.prefixes[p.branching][sum], o)
	}
}

// compareCopies reports objects that differ in front of a fork.
func (v *Verifier) compareCopies() {
	for b, all := range v.prefixes {
		if len(all) < 2 {
			continue
		}
		var keys []string
		for _, objects := range all {
			for _, o := range objects {
				keys = append(keys, o.key)
			}
		}
		slices.Sort(keys)
		v.found(Finding{
			Kind: KindHistory, Object: keys[0], Timeline: b.child, LSN: b.at,
			Message: fmt.Sprintf("timeline %d left timeline %d at %s, but the bytes of the segment in front of that differ between %s",
				uint32(b.child), uint32(b.parent), b.at, strings.Join(keys, ", ")),
			Advice: fmt.Sprintf("one of them is of a server that went another way; compare them with the servers' own; until then recovery to timeline %d or %d can end at %s",
				uint32(b.parent), uint32(b.child), v.id.SegmentSize.Floor(b.at)),
		})
	}
}
