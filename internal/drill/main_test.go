package drill

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// What the test program is when it is run for another purpose than its tests.
const (
	asWatchdog = "walrecv-test-watchdog"
	asVictim   = "walrecv-test-victim"
	asConfined = "walrecv-test-confined"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asWatchdog:
			if err := Watch(os.Stdin); err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		case asConfined:
			i := slices.Index(os.Args, "--")
			err := Become(os.Args[2:i], os.Args[i+1:], os.Environ())
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		case asVictim:
			victim(os.Args[2], os.Args[3], os.Args[4])
		}
	}
	goleak.VerifyTestMain(m)
}

// victim begins a drill's server on a copy of a data directory, says so, and waits to
// be killed.
func victim(base, data, bin string) {
	err := func() error {
		as, err := FindAccount()
		if err != nil {
			return err
		}
		dog, err := startWatchdog([]string{os.Args[0], asWatchdog})
		if err != nil {
			return err
		}
		held = dog
		p, err := newPlace(context.Background(), base, as, dog.guard)
		if err != nil {
			return err
		}
		if err := takeData(p, data); err != nil {
			return err
		}
		programs := Programs{Postgres: bin + "/postgres"}
		if err := p.configure(p.settingsOf(0, true, nil)); err != nil {
			return err
		}
		s, err := startServer(p, programs, []string{os.Args[0], asConfined}, serverEnviron(os.Environ()))
		if err != nil {
			return err
		}
		_, err = s.follow(context.Background(), time.Minute, func(r replay) bool { return !r.Ready.IsZero() })
		if err == nil {
			fmt.Println("begun:", p.dir, p.socket)
		}
		return err
	}()
	if err != nil {
		fmt.Println("failed:", err)
	}
	select {}
}

// held keeps the pipe to the watchdog from being closed because nobody uses it.
var held *watchdog
