package receiver

import (
	"context"
	"fmt"
)

// open connects to a server whose WAL continues what is held, and prepares to
// stream from it. A host that is behind what is held, an old primary that came
// back by itself or a standby that lags, is passed over for as long as there are
// hosts that have not been tried. Any other refusal is one of the branch, which
// no other host makes good.
func (r *Receiver) open(ctx context.Context) (*session, error) {
	defer r.o.Conn.accept()
	var passed error
	for {
		conn, err := Connect(ctx, r.o.Conn)
		if err != nil {
			return nil, besides(err, passed)
		}
		s := &session{r: r, conn: conn}
		if err = s.prepare(ctx); err == nil {
			if passed != nil {
				r.log.Warn("passed over a server that is behind what is held; nothing is to be done if it catches up", "error", passed)
			}
			return s, nil
		}
		closeConn(conn)
		if !s.behind() || !r.o.Conn.refuse(conn) {
			return nil, err
		}
		passed = err
	}
}

// besides adds to a failure why the server that could be reached would not do.
func besides(err, passed error) error {
	if passed == nil {
		return err
	}
	return fmt.Errorf("%w; and the server that can be reached is behind: %s", err, passed.Error()) // which is not final here
}

// behind says that the server has not come as far as what is held.
func (s *session) behind() bool {
	return s.lag || s.server.Timeline < s.held.Newest ||
		s.server.InRecovery && s.held.EndOn(s.server.Timeline, s.server.SegmentSize) > s.server.End
}
