package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// openPlace is a place in the course of one call: what is known of it is kept
// from one look to the next.
type openPlace struct {
	Place
	kind  string // "spool" or "archive"
	store *storage.Early
	src   source // nil until its cluster is known
}

func (p *openPlace) String() string { return p.kind + " " + p.Location }

// source gives a place as a source, after it has shown to be of the right
// cluster. The first place that knows decides which cluster that is, if nobody
// else does.
func (c *call) source(a *attempt, p *openPlace) (source, error) {
	if p.src != nil {
		return p.src, nil
	}
	if err := c.open(a, p); err != nil {
		return nil, err
	}
	src, id, err := c.identify(a, p)
	if err != nil {
		return nil, err
	}
	if err := c.adopt(p, id); err != nil {
		return nil, err
	}
	p.src = src
	return src, nil
}

func (c *call) open(a *attempt, p *openPlace) error {
	if p.store != nil {
		return nil
	}
	store, err := within(a, p.Open)
	if err == nil {
		p.store = storage.NewEarly(storage.WithDeadline(store))
	}
	return err
}

// confirm looks once more for the identity of a place.
func (c *call) confirm(a *attempt, p *openPlace) error {
	_, id, err := c.identify(a, p)
	if err != nil {
		return err
	}
	return c.adopt(p, id)
}

// adopt compares what a place says of its cluster with what is known.
func (c *call) adopt(p *openPlace, id segment.Identity) error {
	if c.system != 0 && c.system != id.SystemID {
		return problemf(misconfigured, "%s is of the cluster with system identifier %d, not of %d", p, id.SystemID, c.system)
	}
	if c.size != 0 && c.size != id.Size {
		return problemf(misconfigured, "%s has segments of %s, the other place of %s", p, id.Size, c.size)
	}
	c.system, c.size = id.SystemID, id.Size
	return nil
}

// identify finds out what a place is and which cluster it is of. An archive of
// format 1 that has the wanted cluster, or the only one, is one, whatever else
// is there.
func (c *call) identify(a *attempt, p *openPlace) (source, segment.Identity, error) {
	if p.kind == kindSpool {
		return c.identifyFlat(a, p)
	}
	if c.system == 0 {
		src, id, err := c.onlyArchive(a, p)
		if err == nil || judge(err).verdict != noIdentity {
			return src, id, err
		}
		return c.identifyFlat(a, p)
	}
	src, id, err := c.openArchive(a, p, c.system)
	if !errors.Is(err, fs.ErrNotExist) {
		return src, id, err
	}
	src, id, err = c.identifyFlat(a, p)
	if err == nil || judge(err).verdict != noIdentity {
		return src, id, err
	}
	return c.onlyArchive(a, p)
}

func (c *call) openArchive(a *attempt, p *openPlace, system uint64) (source, segment.Identity, error) {
	keys, err := c.keys()
	if err != nil {
		return nil, segment.Identity{}, err
	}
	arch, err := within(a, func(ctx context.Context) (*archive.Archive, error) {
		return archive.Open(ctx, p.store, system, keys)
	})
	if err != nil {
		return nil, segment.Identity{}, c.missing(p, err)
	}
	return &archiveSource{arch, p.String()}, arch.Identity().Segment(), nil
}

// keys are those of the archive. Without them it can be there, but is not read.
func (c *call) keys() (archive.Keys, error) {
	if c.o.Keys == nil {
		return archive.Keys{}, nil
	}
	keys, err := c.o.Keys()
	if err != nil {
		return archive.Keys{}, &problem{locked, err}
	}
	return keys, nil
}

// onlyArchive takes the only cluster that a place has an archive of.
func (c *call) onlyArchive(a *attempt, p *openPlace) (source, segment.Identity, error) {
	ids, err := within(a, func(ctx context.Context) ([]archive.Identity, error) {
		return archive.Identify(ctx, p.store)
	})
	switch {
	case err != nil:
		err = c.missing(p, err)
	case len(ids) == 0:
		err = c.noIdentity(p)
	case c.system != 0:
		err = problemf(misconfigured, "%s holds nothing of the cluster with system identifier %d, only of %s", p, c.system, systems(ids))
	case len(ids) > 1:
		err = problemf(misconfigured, "%s holds several clusters: %s; choose one with --system-id", p, systems(ids))
	default:
		return c.openArchive(a, p, ids[0].SystemID)
	}
	return nil, segment.Identity{}, err
}

func systems(ids []archive.Identity) string {
	text := ""
	for i, id := range ids {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(id.SystemID)
	}
	return text
}

func (c *call) identifyFlat(a *attempt, p *openPlace) (source, segment.Identity, error) {
	id, err := within(a, func(ctx context.Context) (segment.Identity, error) {
		return flatIdentity(ctx, p.store, p.String())
	})
	if errors.Is(err, errNothing) {
		err = c.noIdentity(p)
	}
	if err != nil {
		return nil, id, c.missing(p, err)
	}
	return &flat{p.store, id.Size, p.String()}, id, nil
}

// noIdentity is what an empty place gives, and so one that is not mounted.
func (c *call) noIdentity(p *openPlace) error {
	return problemf(noIdentity, "%s says nothing about whose WAL it holds: is it mounted, and the right path?", p)
}

// missing makes of the error of a place that is not there what it means.
func (c *call) missing(p *openPlace, err error) error {
	var known *problem
	if p.Missing != nil && errors.Is(err, p.Missing) && !errors.As(err, &known) {
		return &problem{noIdentity, fmt.Errorf("it is not there: is it mounted, is its name right? (%w)", err)}
	}
	return err
}

const (
	kindSpool   = "spool"
	kindArchive = "archive"
)

// places are those of the options, in the order in which WAL moves.
func places(o *Options) []*openPlace {
	var all []*openPlace
	if o.Spool.given() {
		all = append(all, &openPlace{Place: o.Spool, kind: kindSpool})
	}
	if o.Archive.given() {
		all = append(all, &openPlace{Place: o.Archive, kind: kindArchive})
	}
	return all
}

// troubled makes a finding of an error that a place gave, with its name, once.
func (c *call) troubled(p *openPlace, err error) finding {
	var local *localError
	if errors.As(err, &local) {
		return finding{unknown, local}
	}
	f := judge(c.missing(p, err))
	if !strings.HasPrefix(f.err.Error(), p.String()) {
		f.err = fmt.Errorf("%s: %w", p, f.err)
	}
	return f
}

// within makes one request of a place. Where the request was given up, the error
// says why.
func within[T any](a *attempt, request func(context.Context) (T, error)) (T, error) {
	ctx, cancel := a.op()
	defer cancel()
	value, err := request(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return value, err
}
