package integration

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// prefetchKilled: the helper is killed at random moments, in some rounds every one
// that comes after it, too.
func prefetchKilled(w *aheadWorld) {
	rounds := 3
	if pgtest.Long() {
		rounds = 20
	}
	seed := rand.Uint64()
	w.t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	killed := 0
	for round := range rounds {
		url := ""
		if round%3 > 0 {
			url = w.slow(time.Duration(rng.IntN(30)) * time.Millisecond)
		}
		n := w.restored(pgtest.RecoverySignal, url, "")
		after, all, wait := 1+rng.IntN(len(w.names)-1), rng.IntN(3) == 0, time.Duration(rng.IntN(20))*time.Millisecond
		n.launch()
		n.asked(w.names[after])
		timer := time.NewTimer(wait)
		<-timer.C
		here := 0
		seldom(w.t, func() bool {
			here += n.killHelpers(syscall.SIGKILL)
			return here > 0 && !all || n.ended()
		}, "round %d: the recovery does not come to its end", round)
		n.recovers()
		n.Stop(pgtest.Fast)
		n.leavesNothing()
		n.Destroy()
		w.t.Logf("round %d: %d killed from %s on", round, here, w.names[after])
		killed += here
	}
	if killed == 0 {
		w.t.Error("there was nobody to kill")
	}
}

// ended tells whether the server is a primary.
func (n *ahead) ended() bool {
	rows, err := n.TryQuery(n.t.Context(), "select pg_is_in_recovery()")
	return err == nil && rows[0][0] == "f"
}

// prefetchHangs: the helper is stopped, with files on their way, and the recovery
// goes on without it. It is no obstacle to the next server either.
func prefetchHangs(w *aheadWorld) {
	proxy := w.store.Proxy(w.t)
	n := w.restored(pgtest.RecoverySignal, proxy.URL(aheadPrefix), "")
	asked := w.names[8]
	release := n.hold(asked)
	n.launch()
	n.asked(asked)
	n.helper()
	proxy.SetLatency(300 * time.Millisecond) // so that something is on its way
	release()
	n.answered(asked)
	n.killHelpers(syscall.SIGSTOP)
	proxy.SetLatency(0)
	n.recovers()
	n.Stop(pgtest.Fast)
	n.killHelpers(syscall.SIGCONT)
	n.leavesNothing()
}

// prefetchEnded: told to end, the helper tidies up.
func prefetchEnded(w *aheadWorld) {
	n := w.restored(pgtest.RecoverySignal, w.slow(10*time.Millisecond), "")
	asked := w.names[8]
	release := n.hold(asked)
	n.launch()
	n.asked(asked)
	n.helper()
	n.killHelpers(syscall.SIGTERM)
	n.leavesNothing()
	release()
	n.recovers()
}

// prefetchStoreFails: what was fetched before an outage is delivered in it, and the
// recovery goes on when it is over.
func prefetchStoreFails(w *aheadWorld) {
	outages := []s3test.Outage{s3test.Hang}
	if pgtest.Long() {
		outages = append(outages, s3test.Refuse)
	}
	for _, outage := range outages {
		proxy := w.store.Proxy(w.t)
		n := w.restored(pgtest.RecoverySignal, proxy.URL(aheadPrefix), "")
		release := n.helped(w.names[5])
		n.areStaged(w.names[6:13])
		proxy.SetOutage(outage)
		release()
		n.answered(w.names[12])
		n.asked(w.names[13])
		proxy.SetOutage(s3test.None)
		n.recovers()
		n.Stop(pgtest.Fast)
		n.leavesNothing()
		n.Destroy()
	}
	proxy := w.store.Proxy(w.t)
	n := w.restored(pgtest.RecoverySignal, proxy.URL(aheadPrefix), "")
	for k := range 20 { // single requests, of whom it may
		proxy.FailAt(3*k+1, s3test.When(k%2))
	}
	n.launch()
	n.recovers()
}

// prefetchObjectHangs: of one object nothing comes. What is asked for before it is
// delivered, whoever fetches ahead, and what is behind it when something comes again.
func prefetchObjectHangs(w *aheadWorld) {
	for _, under := range [][]string{nil, {subreaper(w.t), toolPath(w.t, "env")}} {
		n := w.restored(pgtest.RecoverySignal, "", "")
		release := w.wal.hang(filepath.Join(w.cluster, "wal", w.names[8][:8], w.names[8]+".zst"))
		n.launch(under...)
		n.answered(w.names[7])
		n.asked(w.names[8])
		release()
		n.recovers()
	}
}

// prefetchRemoved: somebody removes all that was fetched ahead.
func prefetchRemoved(w *aheadWorld) {
	asked := w.names[4]
	for _, what := range []string{"/*/*", "/*", ""} {
		// A server for each: it takes a while until who fetches notices that it has
		// lost its directory, and only then somebody else begins.
		n := w.restored(pgtest.RecoverySignal, w.slow(10*time.Millisecond), "")
		release := n.hold(asked)
		defer func() { _ = os.Remove(n.calls + "." + asked) }()
		n.launch()
		n.asked(asked)
		n.helper()
		paths, err := filepath.Glob(n.staging() + what)
		if err != nil || len(paths) == 0 {
			w.t.Fatalf("nothing is %s%s, %v", n.staging(), what, err)
		}
		for _, path := range paths {
			_ = os.RemoveAll(path) // something may come meanwhile
		}
		release()
		n.recovers()
		n.Stop(pgtest.Fast)
		n.leavesNothing()
	}
}

// prefetchDiskFull: the directory has a file system of its own, which gets full and
// empty again.
func prefetchDiskFull(w *aheadWorld) {
	if !canMount(w.t) {
		return
	}
	dir := newDir(w.t)
	n := w.restored(pgtest.RecoverySignal, w.slow(10*time.Millisecond), "--prefetch-dir "+dir)
	full, empty := w.names[4], w.names[13]
	there := n.calls + ".there"
	n.before(full, "ls "+dir+"/* >"+there+"; head -c 30M /dev/zero >"+dir+"/ballast || echo full >>"+there)
	n.before(empty, "rm "+dir+"/ballast")
	n.launch(toolPath(w.t, "unshare"), "-Ucm", "--keep-caps", "sh", "-c",
		"set -e\nmount -t tmpfs -o size=20m,mode=0700 none "+dir+"\n"+`exec "$@"`, "sh")
	n.recovers()
	if was := string(readFile(w.t, there)); !strings.Contains(was, w.names[5]) || !strings.HasSuffix(was, "full\n") {
		w.t.Errorf("this is not a disk that gets full: %s", was)
	}
}

// prefetchProgramGone: the program is gone when it is to be started once more.
func prefetchProgramGone(w *aheadWorld) {
	n := w.restored(pgtest.RecoverySignal, "", "")
	copied := filepath.Join(newDir(w.t), "walrecv")
	command := `cp ` + w.wal.bin + ` ` + copied + `; exec 9<` + copied + `; rm ` + copied + `; /proc/self/fd/9 restore --archive ` + w.wal.dir + ` %f %p`
	n.Set(map[string]string{"restore_command": recorded(n.calls, command)})
	n.launch()
	n.recovers()
	n.Stop(pgtest.Fast)
	n.leavesNothing()
}
