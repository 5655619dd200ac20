package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// alerts judges situations by the rules that walrecv comes with: what real receivers
// tell is put on Prometheus's clock, goes on there as it was for as long as a rule asks
// for, and promtool says which alerts fire.
type alerts struct {
	mu         sync.Mutex
	situations map[time.Duration][]promTest // by how often they are looked at
	expected   map[string]bool              // alerts that fire in some situation
}

// promTest is a test of promtool; its files are YAML, which JSON is.
type promTest struct {
	Name     string       `json:"name"`
	Interval string       `json:"interval"`
	Input    []promSeries `json:"input_series"`
	Exprs    []promExpr   `json:"promql_expr_test"`
}

type promSeries struct {
	Series string `json:"series"`
	Values string `json:"values"`
}

type promExpr struct {
	Expr    string       `json:"expr"`
	At      string       `json:"eval_time"`
	Samples []promSample `json:"exp_samples"`
}

type promSample struct {
	Labels string  `json:"labels"`
	Value  float64 `json:"value"`
}

// scrape is what a receiver told at a moment.
type scrape struct {
	at     time.Time
	values map[string]float64 // by name and labels, as they are written
}

// told scrapes a receiver.
func (r *receiver) told() scrape {
	r.t.Helper()
	code, body := r.page("/metrics")
	if code != http.StatusOK {
		r.t.Fatalf("/metrics: %d %s", code, body)
	}
	s := scrape{time.Now(), map[string]float64{}}
	for _, line := range sampleLine.FindAllStringSubmatch(body, -1) {
		value, err := strconv.ParseFloat(line[3], 64)
		if err != nil {
			r.t.Fatalf("%s: %v", line[0], err)
		}
		if strings.HasPrefix(line[1], "walrecv_") && !strings.HasSuffix(line[1], "_bucket") {
			s.values[line[1]+line[2]] = value
		}
	}
	return s
}

// situation is what receivers tell now.
type situation struct {
	name string

	before *scrape       // what the first receiver told ten minutes long before; nil: nothing
	aged   time.Duration // nothing has happened for so long when it is looked at first
	lasts  time.Duration // from then on; 0: half an hour
	gone   bool          // the receivers do not answer

	fires  firing
	passes time.Duration // they do not fire any more after so long; 0: they go on
}

// firing are the alerts that fire, and after how long each.
type firing map[string]time.Duration

const (
	promStep   = time.Minute // how often Prometheus scrapes
	promBefore = 10          // steps

	// between is the time between two scrapes, which tell what grows with time.
	between = 700 * time.Millisecond
)

// add notes a situation, to be judged by run. It may be called beside itself.
func (a *alerts) add(s situation, receivers ...*receiver) {
	if s.lasts == 0 {
		s.lasts = 30 * time.Minute
	}
	every := time.Minute // Prometheus looks at its rules
	if s.lasts > 3*hour {
		every = 5 * time.Minute // or promtool takes long
	}
	test := promTest{Name: s.name, Interval: promStep.String()}
	first := make([]scrape, len(receivers))
	if !s.gone {
		for i, r := range receivers {
			first[i] = r.told()
		}
		for begin := time.Now(); time.Since(begin) < between; {
			time.Sleep(between / 10)
		}
	}
	for i, r := range receivers {
		labels := fmt.Sprintf("job=\"walrecv\",instance=\"%d\"", i)
		up := 0
		if !s.gone {
			up = 1
			test.Input = append(test.Input, s.series(first[i], r.told(), i == 0, labels)...)
		}
		test.Input = append(test.Input, promSeries{fmt.Sprintf("up{%s}", labels), fmt.Sprintf("1x%d %dx%d", promBefore-1, up, s.lasts/promStep)})
	}
	if len(receivers) == 0 {
		test.Input = []promSeries{{`up{job="walrecv"}`, fmt.Sprintf("1x%d stale", promBefore-1)}}
	}
	end := promBefore*promStep + s.lasts
	fired := promExpr{
		Expr: fmt.Sprintf(`max by (alertname) (count_over_time(ALERTS{alertstate="firing"}[%ds]))`, int(end.Seconds())),
		At:   end.String(), Samples: []promSample{},
	}
	for name, delay := range s.fires {
		looks := (s.lasts-delay)/every + 1
		if s.passes > 0 {
			looks = s.passes / every
		}
		fired.Samples = append(fired.Samples, promSample{fmt.Sprintf("{alertname=%q}", name), float64(looks)})
	}
	test.Exprs = []promExpr{fired}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.situations == nil {
		a.situations, a.expected = map[time.Duration][]promTest{}, map[string]bool{}
	}
	a.situations[every] = append(a.situations[every], test)
	for name := range s.fires {
		a.expected[name] = true
	}
}

// series is what a receiver told twice, as it goes on if nothing happens: what counts
// the seconds of this situation goes on counting, and a moment in the past stays where
// it was, to the hour.
func (s situation) series(one, two scrape, hasBefore bool, labels string) (all []promSeries) {
	steps := int(s.lasts / promStep)
	took := two.at.Sub(one.at).Seconds()
	begin := promBefore * promStep.Seconds() // on Prometheus's clock, when this was scraped
	for _, name := range sortedNames(two.values) {
		value, step := two.values[name], 0.
		base, own, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
		switch {
		case strings.HasSuffix(base, "_timestamp_seconds"):
			age := s.aged + two.at.Sub(time.UnixMilli(int64(value*1000))).Truncate(time.Hour)
			value = begin - age.Seconds()
		case countsSeconds[base]:
			if value-one.values[name] > took/2 {
				value, step = 0, promStep.Seconds()
			}
		}
		earlier := fmt.Sprintf("_x%d", promBefore)
		if hasBefore && s.before != nil {
			if was, known := s.before.values[name]; known {
				earlier = fmt.Sprintf("%s+0x%d", plain(was), promBefore-1)
			}
		}
		if own != "" {
			own += ","
		}
		all = append(all, promSeries{fmt.Sprintf("%s{%s%s}", base, own, labels), fmt.Sprintf("%s %s+%sx%d", earlier, plain(value), plain(step), steps)})
	}
	return all
}

// countsSeconds are gauges that say how long something has lasted, if it still does.
var countsSeconds = map[string]bool{"walrecv_lag_seconds": true, "walrecv_oldest_unarchived_seconds": true}

func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func sortedNames(values map[string]float64) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// promtool runs it, which has to say that all is well.
func promtool(t testing.TB, input string, args ...string) {
	t.Helper()
	program := filepath.Join(pgtest.ModuleRoot(t), "build", "bin", "promtool")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("no promtool: %v; get it with: tools/need promtool", err)
	}
	command := exec.Command(program, args...)
	command.Stdin = strings.NewReader(input)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("promtool %v: %v\n%s", args, err, out)
	}
}

func rulesFile(t testing.TB) string {
	return filepath.Join(pgtest.ModuleRoot(t), "contrib", "prometheus", "walrecv.rules.yml")
}

var ruleLine = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)

// ruleNames are the alerts that there are.
func ruleNames(t testing.TB) (names []string) {
	t.Helper()
	for _, found := range ruleLine.FindAllStringSubmatch(string(readFile(t, rulesFile(t))), -1) {
		names = append(names, found[1])
	}
	return names
}

// run judges all situations, of which each alert has one at least.
func (a *alerts) run(t *testing.T) {
	t.Helper()
	for _, name := range ruleNames(t) {
		if !a.expected[name] {
			t.Errorf("there is no situation in which %s fires", name)
		}
		delete(a.expected, name)
	}
	for name := range a.expected {
		t.Errorf("there is no alert %s", name)
	}
	for every, situations := range a.situations {
		file := map[string]any{"rule_files": []string{rulesFile(t)}, "evaluation_interval": every.String(), "tests": situations}
		text, err := json.MarshalIndent(file, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "situations.yml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		promtool(t, "", "test", "rules", path)
	}
}
