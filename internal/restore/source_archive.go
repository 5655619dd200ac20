package restore

import (
	"context"
	"fmt"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// archiveSource is an archive of format 1.
type archiveSource struct {
	archive *archive.Archive
	where   string
}

func (s *archiveSource) segment(ctx context.Context, n segment.Name) (*stream, error) {
	body, err := s.archive.OpenSegment(ctx, n)
	if err != nil {
		return nil, err
	}
	memory := body.(interface{ Memory() int64 }).Memory
	return &stream{where: s.where, body: body, memory: memory, digest: true}, nil
}

func (s *archiveSource) partials(ctx context.Context, n segment.Name) ([]partial, error) {
	there, err := s.archive.Partials(ctx, n)
	if err != nil {
		return nil, err
	}
	var partials []partial
	for _, p := range there {
		where := s.where + ", partial " + p.Digest
		partials = append(partials, partial{where, func(ctx context.Context) (*stream, error) {
			body, err := s.archive.OpenPartial(ctx, p)
			if err != nil {
				return nil, err
			}
			return &stream{where: where, body: body, digest: true}, nil
		}})
	}
	return partials, nil
}

func (s *archiveSource) history(ctx context.Context, t segment.TimelineID) ([]byte, error) {
	data, err := s.archive.History(ctx, t)
	if err != nil {
		return nil, err
	}
	return data, soundHistory(s.where, t, data)
}

func (s *archiveSource) first(ctx context.Context, t segment.TimelineID) (uint64, bool, error) {
	n, ok, err := s.archive.First(ctx, t)
	return n.Number, ok, err
}

func (s *archiveSource) holdings(ctx context.Context, from segment.Name) (holdings, error) {
	return s.archive.Later(ctx, from)
}

var _ prunedSource = (*archiveSource)(nil)

func (s *archiveSource) pruned(ctx context.Context, t segment.TimelineID) (cut segment.LSN, err error) {
	list, err := s.archive.Pruned(ctx)
	for _, p := range list {
		if t <= p.Timeline {
			cut = max(cut, p.Before)
		}
	}
	return cut, err
}

var _ tailSource = (*archiveSource)(nil)

func (s *archiveSource) chunks(ctx context.Context, n segment.Name) ([]archive.Chunk, error) {
	return s.archive.Chunks(ctx, n)
}

func (s *archiveSource) chunk(ctx context.Context, c archive.Chunk) (*stream, error) {
	body, err := s.archive.OpenChunk(ctx, c)
	if err != nil {
		return nil, err
	}
	return &stream{where: fmt.Sprintf("%s, %s", s.where, c), body: body, digest: true}, nil
}

// soundHistory refuses a history file that is not whole.
func soundHistory(where string, t segment.TimelineID, data []byte) error {
	if _, err := pgdata.ParseHistory(t, data); err != nil {
		return problemf(damaged, "%s in %s: %w", segment.HistoryName(t), where, err)
	}
	return nil
}
