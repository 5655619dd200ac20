package restore

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"
)

// Times that shape a call.
const (
	// stallRecovery is how long one request of a recovery may give no sign of
	// life before it is given up and tried anew.
	stallRecovery = 30 * time.Second

	// stallQuick is the same where the call should not wait.
	stallQuick = 2 * time.Second

	// settle is how long a hole is looked at: uploads that are done out of
	// order close it in that time.
	settle = 10 * time.Second

	// watchEvery is how often a waiting call looks for a promotion.
	watchEvery = 100 * time.Millisecond

	backoffFirst = 100 * time.Millisecond
	backoffMost  = 2 * time.Second
)

var (
	errOver    = errors.New("the time to find out is over")
	errPromote = errors.New("the server is to be promoted")
	errStalled = errors.New("no sign of life")
)

// patience says how long to wait for the places.
type patience struct {
	until time.Time     // no try begins and none is waited for after this
	stall time.Duration // longest time without a sign of life
}

// attempt is one look within the patience. Its context ends when the look must:
// at the end of the patience, or with a promotion.
type attempt struct {
	base  context.Context // of the call
	ctx   context.Context
	stall time.Duration
}

// op gives one request its context. The caller calls cancel.
func (a *attempt) op() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(a.ctx, a.stall, errStalled)
}

// flow is the context of a transfer: of its beginning as that of a request, and
// then for as long as signs of life come. A transfer that has begun is not ended
// by the end of the patience: the file is there, and slow is no outage.
type flow struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	detach func() bool // from the attempt
	timer  *time.Timer
	stall  time.Duration
}

func (a *attempt) flow() *flow {
	ctx, cancel := context.WithCancelCause(a.base)
	return &flow{
		ctx:    ctx,
		cancel: cancel,
		detach: context.AfterFunc(a.ctx, func() { cancel(context.Cause(a.ctx)) }),
		timer:  time.AfterFunc(a.stall, func() { cancel(errStalled) }),
		stall:  a.stall,
	}
}

// alive says that there was a sign of life.
func (f *flow) alive() {
	f.detach()
	f.timer.Reset(f.stall)
}

// end frees the flow; what was opened with its context is of no use any more.
func (f *flow) end() {
	f.timer.Stop()
	f.detach()
	f.cancel(nil)
}

// watch makes every read of a stream a sign of life.
func (f *flow) watch(st *stream) {
	st.body = watchedBody{st.body, f}
	if st.at != nil {
		st.at = watchedAt{st.at, f}
	}
}

type watchedBody struct {
	io.ReadCloser
	flow *flow
}

func (b watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.flow.alive()
	return n, err
}

type watchedAt struct {
	io.ReaderAt
	flow *flow
}

func (b watchedAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.ReaderAt.ReadAt(p, off)
	b.flow.alive()
	return n, err
}

// backoff gives growing times between tries, each between half and all of a step
// that doubles, so that the servers of an outage do not come back as one.
type backoff struct{ step time.Duration }

func (b *backoff) next() time.Duration {
	b.step = min(max(2*b.step, backoffFirst), backoffMost)
	return b.step/2 + rand.N(b.step/2)
}
