package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/docs"
	"github.com/walrecv/walrecv/internal/pgtest"
)

// runbook leads from an alert to its section.
const runbook = "runbook_url: https://github.com/walrecv/walrecv/blob/main/docs/alerts.md#"

// Each alert says what is wrong, and leads to its section of docs/alerts.md, whose table
// has it, too.
func TestAlertsDocumented(t *testing.T) {
	t.Parallel()
	promtool(t, "", "check", "rules", rulesFile(t))
	pages, err := docs.Pages(pgtest.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(pages, func(p docs.Page) bool { return p.Path == "docs/alerts.md" })
	if at < 0 {
		t.Fatal("there is no docs/alerts.md")
	}
	table := string(readFile(t, filepath.Join(pgtest.ModuleRoot(t), pages[at].Path)))
	rules := string(readFile(t, rulesFile(t)))
	for _, name := range ruleNames(t) {
		_, rule, _ := strings.Cut(rules, "- alert: "+name+"\n")
		rule, _, _ = strings.Cut(rule, "- alert: ")
		severity := regexp.MustCompile(`severity: (critical|warning)}`).FindStringSubmatch(rule)
		for _, part := range []string{"summary: ", "description: ", runbook + strings.ToLower(name) + "\n"} {
			if !strings.Contains(rule, part) {
				t.Errorf("%s has no %s", name, part)
			}
		}
		if !pages[at].Anchors[strings.ToLower(name)] {
			t.Errorf("docs/alerts.md has no section %s", name)
		}
		if severity == nil || !strings.Contains(table, fmt.Sprintf("| [%s](#%s) | %s |", name, strings.ToLower(name), severity[1])) {
			t.Errorf("the table of docs/alerts.md does not have %s with its severity %v", name, severity)
		}
	}
}

// dashboard is what matters of one of Grafana's.
type dashboard struct {
	Templating struct {
		List []struct {
			Name, Type string
			Datasource source
		}
	}
	Panels []struct {
		ID                 int
		Title, Description string
		Datasource         source
		GridPos            struct{ X, Y, W, H int }
		Targets            []struct{ RefID, Expr string }
	}
}

type source struct{ UID string }

var (
	metricName = regexp.MustCompile(`\bwalrecv_[a-z_]+`)
	sampleName = regexp.MustCompile(`(?m)^walrecv_[a-z_]+`)
)

// exports checks the metrics of a receiver of which everything is known, and that the
// rules and the dashboard ask for nothing else.
func (r *receiver) exports() {
	r.t.Helper()
	code, body := r.page("/metrics")
	if code != http.StatusOK {
		r.t.Fatalf("/metrics: %d %s", code, body)
	}
	promtool(r.t, body, "check", "metrics")
	exported := map[string]bool{}
	for _, name := range sampleName.FindAllString(body, -1) {
		exported[name] = true
	}
	asked := map[string]bool{}
	file := readFile(r.t, filepath.Join(pgtest.ModuleRoot(r.t), "contrib", "grafana", "walrecv.json"))
	for _, text := range []string{string(file), string(readFile(r.t, rulesFile(r.t)))} {
		for _, name := range metricName.FindAllString(text, -1) {
			asked[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if !exported[name] {
			r.t.Errorf("%s is asked for, and not exported: %v", name, slices.Sorted(maps.Keys(exported)))
		}
	}
}

// The dashboard is one that Grafana can show whatever its data source is called: its
// panels do not lie on each other, and its queries are PromQL.
func TestDashboard(t *testing.T) {
	t.Parallel()
	file := readFile(t, filepath.Join(pgtest.ModuleRoot(t), "contrib", "grafana", "walrecv.json"))
	var d dashboard
	if err := json.Unmarshal(file, &d); err != nil {
		t.Fatal(err)
	}
	if l := d.Templating.List; len(l) == 0 || l[0].Name != "datasource" || l[0].Type != "datasource" {
		t.Errorf("the data source is no variable: %+v", l)
	}
	for _, v := range d.Templating.List[1:] {
		if v.Datasource.UID != "${datasource}" {
			t.Errorf("the variable %s is of %q", v.Name, v.Datasource.UID)
		}
	}
	ids, places := map[int]string{}, map[[2]int]string{}
	rules := "groups:\n- name: dashboard\n  rules:\n"
	for _, p := range d.Panels {
		if other, twice := ids[p.ID]; twice || p.ID == 0 {
			t.Errorf("%s has the id %d of %q", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		if p.Title == "" || p.Description == "" {
			t.Errorf("it is not told what %d shows: %q, %q", p.ID, p.Title, p.Description)
		}
		if p.Datasource.UID != "${datasource}" {
			t.Errorf("%s is of %q", p.Title, p.Datasource.UID)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, taken := places[at]; taken || at[0] >= 24 {
					t.Fatalf("%s lies at %v, on %q", p.Title, at, other)
				}
				places[at] = p.Title
			}
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] {
				t.Errorf("%s has %s twice", p.Title, target.RefID)
			}
			refs[target.RefID] = true
			expr := strings.NewReplacer("$instance", ".+", "$__rate_interval", "1m", "$__range", "1h").Replace(target.Expr)
			rules += fmt.Sprintf("  - record: panel_%d_%s\n    expr: %q\n", p.ID, target.RefID, expr)
		}
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	writeFile(t, path, []byte(rules))
	promtool(t, "", "check", "rules", path)
}
