package pgtest

import (
	"fmt"
	"testing"
	"time"
)

// pollEvery is how long the package waits between two looks at a condition.
const pollEvery = 5 * time.Millisecond

// Eventually looks at a condition until it holds, and ends the test when that
// took longer than d. what, a format and its arguments, says in the message what
// did not happen.
func Eventually(t testing.TB, d time.Duration, holds func() bool, what ...any) {
	t.Helper()
	if poll(d, holds) {
		return
	}
	message := "a condition did not come to hold"
	if len(what) > 0 {
		message = fmt.Sprintf(fmt.Sprint(what[0]), what[1:]...)
	}
	t.Fatalf("after %v: %s", d, message)
}

// poll reports whether the condition held within d. It looks at least once,
// and a last time after d.
func poll(d time.Duration, holds func() bool) bool {
	deadline := time.Now().Add(d)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		late := !time.Now().Before(deadline)
		if holds() {
			return true
		}
		if late {
			return false
		}
		<-tick.C
	}
}
