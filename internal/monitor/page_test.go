package monitor

import (
	"runtime"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	took := newTimes(&metric{"b_seconds", histogram, "How long.", nil}, []float64{.001, 1})
	for _, d := range []time.Duration{0, time.Millisecond, time.Second, time.Second + 1, time.Hour} {
		took.add(d)
	}
	tries := counts{metric: &metric{"a_total", counter, "How often.", []string{"kind", "result"}}}
	tries.add("y", "ok")
	tries.add("x", "ok")
	tries.add("y", "ok")
	tries.add("y", "error")
	p := &page{}
	p.add(&metric{"c", gauge, "What.", nil}, 1e10)
	took.collect(p)
	(&counts{metric: &metric{"none_total", counter, "Nothing.", []string{"kind", "result"}}}).collect(p)
	tries.collect(p)
	p.add(&metric{"a_info", gauge, "Who.", []string{"name"}}, 1, "a\"b\\c\nd")
	const want = `# HELP a_info Who.
# TYPE a_info gauge
a_info{name="a\"b\\c\nd"} 1
# HELP a_total How often.
# TYPE a_total counter
a_total{kind="x",result="ok"} 1
a_total{kind="y",result="error"} 1
a_total{kind="y",result="ok"} 2
# HELP b_seconds How long.
# TYPE b_seconds histogram
b_seconds_bucket{le="0.001"} 2
b_seconds_bucket{le="1"} 3
b_seconds_bucket{le="+Inf"} 5
b_seconds_sum 3602.001000001
b_seconds_count 5
# HELP c What.
# TYPE c gauge
c 1e+10
`
	if got := string(p.text()); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestProcess(t *testing.T) {
	p := &page{}
	p.process(time.Unix(1000, 0))
	got := map[string]bool{}
	for _, l := range p.lines {
		got[l.of.name] = true
	}
	want := []*metric{goroutines, goInfo, heapBytes, sysBytes, cpuSeconds, maxFDs, startTime}
	if runtime.GOOS == "linux" {
		want = append(want, openFDs, resident)
	}
	for _, m := range want {
		if !got[m.name] {
			t.Errorf("%s is missing", m.name)
		}
	}
}
