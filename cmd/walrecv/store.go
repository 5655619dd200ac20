package main

import (
	"context"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
	"github.com/walrecv/walrecv/storage/s3"
)

// storeOptions are what a command wants of a store besides its place.
type storeOptions struct {
	connections int  // requests at the same time; 0: a few
	unsafe      bool // --allow-unsafe-store
}

// openStore gives the store of an archive to any command. It asks nothing of it
// yet: errors are about configuration.
func openStore(ctx context.Context, location storage.Location, environ []string, o storeOptions) (storage.Store, error) {
	if location.Scheme != storage.SchemeS3 {
		// What root puts there its owner has to be able to read.
		fsys, err := vfs.OwnedAs(location.Path)
		if err != nil {
			fsys = vfs.OS() // the store will say what is wrong with it
		}
		return local.New(fsys, location.Path, local.Private), nil
	}
	store, err := s3.New(ctx, location.S3, s3.Options{
		Environ: environ, Connections: o.connections, Unsafe: o.unsafe, Classed: classed, Ours: uploaded,
	})
	if err != nil {
		return nil, usageError("%w", err)
	}
	return store, nil
}

// tailConnections is how many connections a receiver keeps besides those of its
// upload workers: for what it puts into the tail, and for what it asks.
const tailConnections = 16

// classed tells which objects a storage class is for: those that are large and
// stay. The tail goes within minutes, and the cheap classes charge for a month.
func classed(key string) bool {
	o, err := archive.ParseKey(key)
	if err != nil {
		return false
	}
	switch o.Kind {
	case archive.KindSegment, archive.KindPartial:
		return true
	case archive.KindBaseBackup:
		return o.File != archive.BackupStart && o.File != archive.BackupEnd
	}
	return false
}

// uploaded tells which objects are written without their size being known: what
// crashed writers leave of others in the bucket is not ours to remove.
func uploaded(key string) bool {
	o, err := archive.ParseKey(key)
	return err == nil && o.Kind == archive.KindBaseBackup
}

// sweeper is a store in which crashed writers leave something behind.
type sweeper interface {
	Sweep(ctx context.Context, before time.Time) (removed int, err error)
}
