package integration

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// burden is what a process takes from its machine.
type burden struct {
	rss, pss             int64 // bytes; pss shares what several processes have in common
	descriptors, threads int64
	cpu                  time.Duration // since its start
}

func burdenOf(t *testing.T, pid int) burden {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", pid)
	read := func(name string) string {
		text, err := os.ReadFile(proc + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	number := func(text, name string) int64 {
		_, rest, _ := strings.Cut(text, "\n"+name+":")
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	memory := read("smaps_rollup")
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	// The first two words are the number and the name, which has no space here.
	stat := strings.Fields(read("stat"))
	user, err1 := strconv.ParseInt(stat[13], 10, 64)
	system, err2 := strconv.ParseInt(stat[14], 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return burden{
		rss: number(memory, "Rss") << 10, pss: number(memory, "Pss") << 10,
		descriptors: int64(len(files)), threads: number(read("status"), "Threads"),
		cpu: time.Duration(user+system) * 10 * time.Millisecond,
	}
}

// Many receivers fit on one machine: each takes little, idle and after work, and does not
// take more the more there are. The long form has fifty, and prints what docs/many.md says.
func TestMany(t *testing.T) {
	t.Parallel()
	many, idle, rows := 3, time.Duration(0), 1000
	if pgtest.Long() {
		many, idle, rows = 50, 30*time.Second, 50000
	}
	places := strconv.Itoa(many + 5)
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20, Settings: map[string]string{
		"max_wal_senders": places, "max_replication_slots": places, "max_connections": "100",
	}})
	c.Start()
	var receivers []*receiver
	for i := range many {
		r := watched(newReceiver(t, c, "--archive", newArchive(t), "-S", fmt.Sprintf("walrecv_%d", i)))
		r.launch()
		receivers = append(receivers, r)
	}
	for _, r := range receivers {
		r.WaitOutput(`"msg":"streaming"`, pgtest.Allow(patience))
	}
	archived := func(lsn string) {
		end := float64(parseLSN(t, lsn))
		for _, r := range receivers {
			pgtest.Eventually(t, pgtest.Allow(patience), func() bool { return r.metrics()["archived_lsn"] >= end }, "it does not archive")
		}
	}
	archived(c.Query("select pg_current_wal_flush_lsn()"))
	measure := func(what string) {
		var before, after []burden
		for _, r := range receivers {
			before = append(before, burdenOf(t, r.PID()))
		}
		began := time.Now()
		for time.Since(began) < idle {
			time.Sleep(10 * time.Millisecond)
		}
		var cpu time.Duration
		for i, r := range receivers {
			after = append(after, burdenOf(t, r.PID()))
			cpu += after[i].cpu - before[i].cpu
		}
		median := func(of func(burden) int64) int64 {
			var values []int64
			for _, b := range after {
				values = append(values, of(b))
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		rss, pss := median(func(b burden) int64 { return b.rss }), median(func(b burden) int64 { return b.pss })
		descriptors, threads := median(func(b burden) int64 { return b.descriptors }), median(func(b burden) int64 { return b.threads })
		share := cpu.Seconds() / time.Since(began).Seconds() / float64(many) // means nothing in the short form
		t.Logf("%d receivers, %s: each %.1f MB resident, %.1f MB proportional, %d descriptors, %d threads, %.3f %% of a processor",
			many, what, float64(rss)/1e6, float64(pss)/1e6, descriptors, threads, 100*share)
		if rss > 64<<20 || descriptors > 40 || threads > 40 || pgtest.Long() && share > 0.01 {
			t.Errorf("%s, one of %d takes too much", what, many)
		}
	}
	measure("idle")
	c.Exec(fmt.Sprintf("create table t as select i, repeat('walrecv', 20) from generate_series(1, %d) i", rows))
	archived(c.Query("select pg_current_wal_flush_lsn()"))
	measure("after work")
	for _, r := range receivers {
		r.stop()
	}
}
