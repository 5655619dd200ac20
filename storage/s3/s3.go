// Package s3 is a [storage.Store] in a bucket of S3, or of a store that speaks
// its protocol. The key of an object is the prefix of the location, a slash, and
// the key of the [storage.Store].
//
// An object is one PutObject with If-None-Match: *, so that a key that is taken
// stays as it is, with a digest that the store compares. A large one whose size was
// not known, see [Store.Create], is a multipart upload with the same. A store that ignores the
// condition is found out by whoever puts an object twice, see
// [storage.ErrUnsafe].
//
// Every request is tried three times, with growing pauses, and every try has a
// deadline: a store that hangs is an error. Endless patience is the caller's.
package s3

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/semaphore"

	"github.com/walrecv/walrecv/storage"
)

// Options are what the location does not say. The zero value has defaults for
// everything.
type Options struct {
	// Environ is the environment in the form of os.Environ: the AWS_ variables
	// for keys, region and endpoint, and those that name a proxy.
	Environ []string

	// Connections is how many idle connections are kept for the next request;
	// 0: 16.
	Connections int

	// Classed tells which objects get the location's storage class; nil: none.
	Classed func(key string) bool

	// Unsafe makes Put work on stores without conditional writes, too: it looks
	// whether the key is taken before it puts. Of two writers at the same moment
	// one can overwrite the other.
	Unsafe bool

	// Ours tells which objects are written with Create, so that Sweep leaves uploads of
	// others alone; nil: all below the prefix.
	Ours func(key string) bool

	times times // zero: defaultTimes
	page  int32 // keys, or uploads, in one answer to a listing; 0: as many as the store likes
	part  int64 // size of the first part of an upload; 0: partSize
}

// times are the deadlines of one try of a request.
type times struct {
	answer time.Duration // from the last byte sent to the answer
	rest   time.Duration // for all else of a request without content, and between two reads of a body
	rate   int64         // bytes per second, the slowest that still counts as working
	pause  time.Duration // longest one between two tries
	insist time.Duration // how long a part of an upload is tried again, after the tries of each request
}

// The pauses are short: who waits for an answer of two seconds should hear why there
// is none. Who goes on trying makes longer ones.
var defaultTimes = times{answer: 30 * time.Second, rest: 30 * time.Second, rate: 64 << 10, pause: 500 * time.Millisecond, insist: 10 * time.Minute}

// Store is a [storage.Store] in a bucket. It is safe for concurrent use.
type Store struct {
	client  *s3.Client
	loc     storage.S3
	where   string // for messages: bucket and endpoint
	prefix  string // of keys, ends with a slash unless empty
	options Options
	// noConditions is set when the store has refused a conditional write, with
	// Options.Unsafe only.
	noConditions atomic.Bool
	room         *semaphore.Weighted // for parts of uploads on their way
	spare        chan []byte         // memory for parts of partSize(1)
}

var (
	_ storage.Store      = (*Store)(nil)
	_ storage.Deleter    = (*Store)(nil)
	_ storage.DirLister  = (*Store)(nil)
	_ storage.FromLister = (*Store)(nil)
	_ storage.EndReader  = (*Store)(nil)
	_ storage.Creator    = (*Store)(nil)
)

// New returns the store at a location whose scheme is [storage.SchemeS3]. It
// makes no request, but reads the files of a profile, a token or a CA. Errors
// are about configuration: none may pass by itself.
func New(ctx context.Context, loc storage.S3, o Options) (*Store, error) {
	if o.times == (times{}) {
		o.times = defaultTimes
	}
	c, err := newSetup(ctx, loc, o)
	if err != nil {
		return nil, err
	}
	s := &Store{client: c.client(), loc: loc, where: c.where(), options: o, spare: make(chan []byte, partsAtOnce+1)}
	s.room = s.newRoom()
	if loc.Prefix != "" {
		s.prefix = loc.Prefix + "/"
	}
	return s, nil
}

func (s *Store) key(key string) *string {
	full := s.prefix + key
	return &full
}

// check refuses what is no key or no longer wanted.
func check(ctx context.Context, what, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	return ended(ctx, what)
}

// Delete implements [storage.Deleter].
func (s *Store) Delete(ctx context.Context, key string) error {
	what := "delete " + key
	if err := check(ctx, what, key); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.loc.Bucket, Key: s.key(key)})
	if failed := s.failed(ctx, what, err); !isAbsent(failed) {
		return failed
	}
	return nil
}

// relative is the key of a [storage.Store] for one of the bucket; ok is false for
// one that is not the store's.
func (s *Store) relative(full *string) (key string, ok bool) {
	if full == nil {
		return "", false
	}
	key, ok = strings.CutPrefix(*full, s.prefix)
	return key, ok && storage.CheckKey(key) == nil
}
