package receiver

import (
	"sync/atomic"
	"time"
)

// intervals are those of the options that can change while a Receiver runs.
type intervals struct {
	flush, status atomic.Int64  // as a time.Duration
	sooner        chan struct{} // the next status may be due earlier
	sync          chan struct{} // and so may the next sync
}

func newIntervals(o Options) *intervals {
	i := &intervals{sooner: make(chan struct{}, 1), sync: make(chan struct{}, 1)}
	i.flush.Store(int64(o.FlushInterval))
	i.status.Store(int64(o.StatusInterval))
	return i
}

// SetIntervals changes the FlushInterval and the StatusInterval of the Options, from
// now on. It may be called from any goroutine.
func (r *Receiver) SetIntervals(flush, status time.Duration) {
	r.pace.flush.Store(int64(flush))
	r.pace.status.Store(int64(status))
	notify(r.pace.sooner)
	notify(r.pace.sync)
}
