package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// encrypted checks what can be checked of an object that no identity fits: that it
// is as it was written. nil says that it is, and that the report will tell of it.
func (w *worker) encrypted(ctx context.Context, o object) error {
	err := w.retry(ctx, func(ctx context.Context, _ func()) error {
		return w.archive.CheckClear(ctx, o.at, o.size)
	})
	if err == nil {
		o.at.Encrypted = true
		w.mu.Lock()
		defer w.mu.Unlock()
		w.locked[o.at.Key()] = true
	}
	return err
}

// unseen tells of what is encrypted and was not looked into.
func (v *Verifier) unseen() {
	if len(v.locked) == 0 {
		return
	}
	what := "it is encrypted, and as it was written; what it holds was not seen"
	if n := len(v.locked); n > 1 {
		what = fmt.Sprintf("it and %d more are encrypted, and as they were written; what they hold was not seen", n-1)
	}
	v.report.Unread = append(v.report.Unread, Finding{
		Kind: KindEncrypted, Object: slices.Min(slices.Collect(maps.Keys(v.locked))), Message: what,
		Advice: "verify with an identity that fits: --decrypt-with",
	})
}

// twice tells of segments that are there encrypted and in the clear.
func (v *Verifier) twice(s *strangers) {
	if s.twice == 0 {
		return
	}
	v.notice(Finding{
		Kind: KindTwice, Object: s.firstTwice,
		Message: fmt.Sprintf("%d segments are there encrypted and in the clear, of which only one was read", s.twice),
		Advice:  "remove those in the clear if nobody should read them",
	})
}
