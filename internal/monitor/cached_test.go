package monitor

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, takes, fails := 0, time.Duration(0), error(nil)
		get := Cached(func() (int, error) {
			calls++
			n, err := calls, fails
			time.Sleep(takes)
			return n, err
		})
		expect := func(what string, want int, wantKnown bool) {
			t.Helper()
			if n, known := get(); known != wantKnown || known && n != want {
				t.Errorf("%s: %d, %v, want %d, %v", what, n, known, want, wantKnown)
			}
		}
		expect("at first", 1, true)
		time.Sleep(cacheAge - time.Millisecond)
		expect("a moment later", 1, true)
		time.Sleep(time.Millisecond)
		expect("a second later", 2, true)

		synctest.Wait()
		takes = time.Hour
		time.Sleep(cacheAge)
		began := time.Now()
		for range 3 {
			expect("while it takes long", 2, true)
		}
		synctest.Wait()
		if waited := time.Since(began); waited != 3*cachePatience || calls != 3 {
			t.Errorf("waited %v, %d calls", waited, calls)
		}
		time.Sleep(takes)
		synctest.Wait()
		takes = 0
		expect("when it has come", 3, true)
		synctest.Wait()
		fails = errors.New("no")
		time.Sleep(cacheAge)
		expect("after a failure", 0, false)
		synctest.Wait()
		fails = nil
		time.Sleep(cacheAge)
		expect("when it works again", 5, true)
	})
}

// TestCachedBefore: nothing is known as long as nothing was found.
func TestCachedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		get := Cached(func() (int, error) { <-let; return 1, nil })
		if n, known := get(); known {
			t.Errorf("%d is known", n)
		}
		close(let)
		if n, known := get(); !known || n != 1 {
			t.Errorf("%d, %v", n, known)
		}
	})
}

// TestRarely: nobody waits, and what was known stays.
func TestRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, fails := 0, errors.New("no")
		get := Rarely(func() (int, error) { calls++; time.Sleep(time.Second); return calls, fails })
		expect := func(what string, want int, wantKnown bool, wantCalls int) {
			t.Helper()
			began := time.Now()
			n, known := get()
			if waited := time.Since(began); known != wantKnown || n != want || waited != 0 {
				t.Errorf("%s: %d, %v after %v, want %d, %v", what, n, known, waited, want, wantKnown)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if calls != wantCalls {
				t.Errorf("%s: %d calls, want %d", what, calls, wantCalls)
			}
		}
		expect("at first", 0, false, 1)
		expect("after a failure", 0, false, 1)
		time.Sleep(rareRetry)
		fails = nil
		expect("a minute later", 0, false, 2)
		expect("once it was found", 2, true, 2)
		time.Sleep(rareAge - 10*time.Second)
		expect("before five minutes are over", 2, true, 2)
		time.Sleep(10 * time.Second)
		fails = errors.New("no")
		expect("then", 2, true, 3)
		expect("after another failure", 2, true, 3)
	})
}
