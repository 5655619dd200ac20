package check

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

func missingArchive(context.Context, *world) []Line {
	return warning("give the archive with --archive", "no archive: WAL stays in the receiver's directory, on one disk")
}

// identity is what the archive of this cluster must be of.
func (w *world) identity() archive.Identity {
	return archive.Identity{SystemID: w.server.SystemID, SegmentSize: w.server.SegmentSize, Major: w.server.Major}
}

// readIdentity reads which cluster the archive is of.
func readIdentity(ctx context.Context, w *world) []Line {
	id := w.identity()
	a, err := archive.Open(ctx, w.o.Store, id.SystemID, archive.Keys{})
	switch {
	case err == nil && a.Identity() != id:
		w.exists = true
		return fault("use another --archive", "the archive is of another cluster: %s, and the server is %s", a.Identity(), id)
	case err == nil:
		w.exists, w.answers, w.archive = true, true, a
		return ok("the archive is one of this cluster, and can be read")
	case errors.Is(err, fs.ErrNotExist):
		w.answers = true
		return w.unknownCluster(ctx)
	}
	return storeFault("read", err)
}

// unknownCluster is for an archive that does not know the server's cluster.
func (w *world) unknownCluster(ctx context.Context) []Line {
	ids, err := archive.Identify(ctx, w.o.Store)
	switch {
	case err != nil:
		w.answers = false
		return storeFault("read", err)
	case len(ids) == 0:
		return ok("the archive is empty: it will be one of this cluster")
	}
	var others []string
	for _, id := range ids {
		others = append(others, fmt.Sprint(id.SystemID))
	}
	w.exists = true
	return fault("correct --archive; if it is right and the server new (upgraded, restored elsewhere), walrecv receive begins an archive for it beside the others",
		"the archive holds nothing of this cluster (%d), only of %s", w.server.SystemID, strings.Join(others, ", "))
}

// list lists what the archive holds of the cluster.
func list(ctx context.Context, w *world) []Line {
	if w.archive == nil {
		prefix := fmt.Sprintf("%d/", w.server.SystemID)
		if err := w.o.Store.List(ctx, prefix, func(storage.Info) error { return nil }); err != nil {
			return storeFault("listed", err)
		}
		return ok("the archive can be listed")
	}
	l, err := w.archive.Listing(ctx)
	if err != nil {
		return storeFault("listed", err)
	}
	w.listing = l
	segments := 0
	for range l.Segments() {
		segments++
	}
	return ok("the archive can be listed; complete segments: %d", segments)
}

// probeKey is the key of an object that is put and deleted to see whether that is
// allowed. Only the tail is ever deleted, so the right to do so may end there. Its
// name is none that a reader looks at.
func (w *world) probeKey() string { return fmt.Sprintf("%d/tail/check", w.server.SystemID) }

// remove finds out whether objects can be deleted, by deleting one that is not
// there: a store that does not allow it says so all the same.
func remove(ctx context.Context, w *world) []Line {
	deleter, can := w.o.Store.(storage.Deleter)
	// Never by age: the tail of a segment that an idle server does not complete may be
	// weeks old, and the only copy.
	const keeps = "nothing is lost by that; give the right to delete below tail/, or have somebody with that right remove the pieces of segments that are complete in wal/, and never by age: old ones may be the only copy"
	if !can {
		return warning(keeps, "this kind of archive cannot delete: pieces of segments that are complete by now stay in it")
	}
	err := deleter.Delete(ctx, w.probeKey())
	switch {
	case err == nil:
		w.mayDelete = true
		return ok("objects can be deleted")
	case errors.Is(err, fs.ErrPermission):
		return warning(keeps, "objects in the archive cannot be deleted: pieces of segments that are complete by now stay in it (%s)", err)
	}
	return storeFault("deleted from", err)
}

// mayWrite says whether there is something that may be written. The identity of a
// cluster is put by a receiver's first start, and by a check that finds an archive
// without any; not beside those of others, where --archive may be wrong.
func mayWrite(w *world) bool { return w.answers && (w.archive != nil || !w.exists) }

// write puts what an archive of this cluster begins with, or finds that it is
// there. Where it can be taken away again, an object is put as well: a store may
// know that a key is taken without looking at rights.
func write(ctx context.Context, w *world) []Line {
	a, err := archive.Init(ctx, w.o.Store, w.identity(), archive.Keys{})
	if err == nil && w.mayDelete {
		err = w.putProbe(ctx)
	}
	if err != nil {
		w.answers = false
		return w.writeFault(err)
	}
	if w.archive == nil {
		w.archive = a
		if w.listing, err = a.Listing(ctx); err != nil {
			return storeFault("listed", err)
		}
		return ok("the archive can be written to, and is one of this cluster now")
	}
	return ok("the archive can be written to")
}

// putProbe puts an object and deletes it.
func (w *world) putProbe(ctx context.Context) error {
	err := w.o.Store.Put(ctx, w.probeKey(), storage.BytesSource([]byte("walrecv check\n")))
	if err != nil && !errors.Is(err, fs.ErrExist) { // another check does the same
		return err
	}
	return w.o.Store.(storage.Deleter).Delete(ctx, w.probeKey())
}

// writes says that the archive could be written to.
func writes(w *world) bool { return w.answers && w.archive != nil }

// conditional makes sure that the store refuses to overwrite.
func conditional(ctx context.Context, w *world) []Line {
	if err := w.archive.ProveCreateOnly(ctx); err != nil {
		return w.writeFault(err)
	}
	return ok("the store refuses to overwrite an object")
}

// writeFault says why the archive cannot be written to. That the store would
// overwrite may show at the first put, or only when a key is taken.
func (w *world) writeFault(err error) []Line {
	const (
		name = "archive_conditional_write"
		what = "the store does not support conditional writes (If-None-Match), so that a second writer could replace what the archive holds"
	)
	switch {
	case !errors.Is(err, storage.ErrUnsafe):
		return storeFault("written to", err)
	case w.o.AllowUnsafe:
		return []Line{{name, Warning, what + "; --allow-unsafe-store accepts that", "make sure that nobody else ever writes there"}}
	}
	return []Line{{name, Error, what, "use another store, or --allow-unsafe-store if nobody else ever writes there"}}
}

// storeFault says that the archive could not be used.
func storeFault(how string, err error) []Line {
	advice := "make the store reachable; walrecv receive waits for it"
	switch {
	case errors.Is(err, storage.ErrNoRoot):
		advice = "create it, mount it, or correct --archive"
	case errors.Is(err, storage.ErrSetup):
		advice = "correct --archive"
	case errors.Is(err, fs.ErrPermission):
		advice = "use other keys, or another user, or give them the right: who archives needs to read, to list and to put objects"
	case errors.Is(err, segment.ErrWrongCluster):
		advice = "use another --archive"
	}
	return fault(advice, "the archive cannot be %s: %s", how, err)
}
