package verify

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// maxForeign is how many objects that are not known are named.
const maxForeign = 100

// strangers is what a Listing does not tell of.
type strangers struct {
	partials []archive.Partial // in the order of their keys
	chunks   int               // of all segments
	left     int               // objects of WAL that was removed on purpose
	foreign  []string          // keys that are not known
	more     int               // not named of them
	useless  []string          // history files that nobody asks for

	last       archive.Object // the complete segment that was listed last
	twice      int            // complete segments that are there encrypted and in the clear
	firstTwice string         // the key of the first of them that is encrypted
}

// listStrangers lists what is there besides what a Listing tells of.
func (v *Verifier) listStrangers(ctx context.Context, l *archive.Listing, alive func()) (strangers, error) {
	s := strangers{}
	err := v.store.List(ctx, v.systemDir(), func(info storage.Info) error {
		alive()
		s.add(info.Key, v.id.SegmentSize, l)
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("list the archive: %w", err)
	}
	return s, nil
}

// systemDir is where everything of the cluster stands.
func (v *Verifier) systemDir() string { return strconv.FormatUint(v.id.SystemID, 10) + "/" }

func (s *strangers) add(key string, size segment.Size, l *archive.Listing) {
	o, err := archive.ParseKey(key)
	var name segment.Name
	if err == nil && o.Segment != "" {
		name, err = segment.ParseName(o.Segment, size)
	}
	switch {
	case err != nil && len(s.foreign) == maxForeign:
		s.more++
	case err != nil:
		s.foreign = append(s.foreign, key)
	case l.Left(o):
		s.left++
	case o.Kind == archive.KindHistory && o.Timeline == 1:
		s.useless = append(s.useless, key)
	case o.Kind == archive.KindTail:
		s.chunks++
	case o.Kind == archive.KindPartial:
		s.partials = append(s.partials, archive.Partial{Name: name, Digest: o.Digest, Encrypted: o.Encrypted})
	case o.Kind == archive.KindSegment:
		if s.last.Segment == o.Segment { // they come in order
			s.twice++
			s.firstTwice = cmp.Or(s.firstTwice, key)
		}
		s.last = o
	}
}

// strange tells of objects that are not verified.
func (v *Verifier) strange(s *strangers, l *archive.Listing) {
	v.twice(s)
	if s.left > 0 {
		v.notice(Finding{Kind: KindRemoved, Message: objects(s.left) + " left of what was pruned", Advice: "walrecv prune, which was interrupted, removes them when it runs again"})
	}
	for _, p := range l.Doubted() {
		v.found(Finding{
			Kind: KindRemoved, Object: v.archive.PrunedKey(p), LSN: p.Before,
			Message: "it says that all WAL before this was removed on purpose, but the archive ends before: newer segments are lost, or it does not belong here",
			Advice:  "if nothing is lost, delete it: once the archive has gone past it, what is older counts as removed",
		})
	}
	for _, key := range s.useless {
		v.notice(Finding{Kind: KindForeign, Object: key, Timeline: 1, Message: "timeline 1 has no history, and nobody asks for this file"})
	}
	for _, key := range s.foreign {
		v.notice(Finding{Kind: KindForeign, Object: key, Message: "nothing that this version puts into an archive"})
	}
	if s.more > 0 {
		v.notice(Finding{Kind: KindForeign, Message: fmt.Sprintf("%d more objects that this version does not put into an archive", s.more)})
	}
}
