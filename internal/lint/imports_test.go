package lint

import (
	"slices"
	"strings"
	"testing"
)

// support are the packages that only tests and the demonstration use. They may
// do what programs do, and no other code may import them.
var support = []string{
	"bench", "bench/meter", "integration", "internal/demo", "internal/docs", "internal/fakepg", "internal/lint", "internal/pgtest", "internal/s3test", "packaging", "storage/storagetest", "tools/sbom",
}

// may says what the code of a package, its tests aside, imports besides the
// standard library.
type may struct {
	ours   []string // packages of this module
	theirs []string // other modules, or packages of them
}

// house are the import rules: they point down, from the programs to the disk. The
// receiver knows no archive, the stores no WAL, the segments no PostgreSQL.
var house = map[string]may{
	"cmd/walrecv": {
		ours: []string{
			"internal/archive", "internal/backup", "internal/basebackup", "internal/check", "internal/codec", "internal/compress", "internal/crypt", "internal/drill", "internal/extract", "internal/monitor", "internal/prune", "internal/push", "internal/recovery", "internal/restore",
			"internal/status", "internal/units", "internal/verify", "internal/vfs", "internal/web", "receiver", "segment", "storage", "storage/local", "storage/s3",
		},
		theirs: []string{
			"filippo.io/age", "github.com/cenkalti/backoff/v5", "github.com/coreos/go-systemd/v22/daemon", "github.com/jackc/pgx/v5/pgconn", "github.com/lmittmann/tint",
			"github.com/pelletier/go-toml/v2",
			"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/sync", "golang.org/x/sys",
			"golang.org/x/term",
		},
	},
	"receiver": {
		ours: []string{"segment"},
		theirs: []string{
			"github.com/cenkalti/backoff/v5", "github.com/jackc/pglogrepl", "github.com/jackc/pgpassfile",
			"github.com/jackc/pgservicefile", "github.com/jackc/pgx/v5/pgconn", "github.com/jackc/pgx/v5/pgproto3",
			"golang.org/x/sync", "golang.org/x/sys",
		},
	},
	"internal/restore": {
		ours:   []string{"internal/archive", "internal/codec", "internal/pgdata", "internal/prefetch", "internal/vfs", "segment", "storage"},
		theirs: []string{"golang.org/x/sync"},
	},
	"internal/prefetch": {
		ours:   []string{"internal/pgdata", "internal/vfs"},
		theirs: []string{"golang.org/x/sys"},
	},
	"internal/push": {
		ours:   []string{"internal/archive", "internal/pgdata", "internal/vfs", "segment", "storage"},
		theirs: []string{"github.com/cenkalti/backoff/v5"},
	},
	"internal/pgdata": {ours: []string{"internal/vfs", "segment"}},
	"internal/verify": {
		ours:   []string{"internal/archive", "internal/backup", "internal/manifest", "segment", "storage"},
		theirs: []string{"github.com/cenkalti/backoff/v5"},
	},
	"internal/backup": {
		ours:   []string{"internal/archive", "segment", "storage"},
		theirs: []string{"golang.org/x/sync"},
	},
	"internal/archive": {
		ours:   []string{"internal/codec", "internal/crypt", "internal/vfs", "segment", "storage"},
		theirs: []string{"github.com/cenkalti/backoff/v5", "golang.org/x/sync"},
	},
	"internal/check": {
		ours:   []string{"internal/archive", "receiver", "segment", "storage"},
		theirs: []string{"github.com/jackc/pgx/v5/pgconn"},
	},
	"internal/basebackup": {
		ours:   []string{"segment"},
		theirs: []string{"github.com/jackc/pgx/v5/pgconn", "github.com/jackc/pgx/v5/pgproto3"},
	},
	"internal/monitor": {
		ours:   []string{"segment", "storage"},
		theirs: []string{"github.com/prometheus/client_golang"},
	},
	"internal/web": {
		ours:   []string{"internal/monitor", "internal/status"},
		theirs: []string{"go.yaml.in/yaml/v2", "golang.org/x/crypto", "golang.org/x/time"},
	},
	"internal/recovery": {ours: []string{"internal/archive", "internal/backup", "internal/units", "segment"}},
	"internal/prune":    {ours: []string{"internal/archive", "internal/backup", "internal/recovery", "segment"}},
	"internal/status":   {ours: []string{"internal/archive", "internal/backup", "internal/recovery", "segment"}},
	"internal/drill": {
		ours:   []string{"internal/archive", "internal/backup", "internal/extract", "internal/pgdata", "internal/recovery", "segment"},
		theirs: []string{"github.com/jackc/pgx/v5/pgconn", "golang.org/x/sys"},
	},
	"internal/extract": {
		ours:   []string{"internal/archive", "internal/backup", "internal/manifest", "internal/vfs", "segment"},
		theirs: []string{"github.com/cenkalti/backoff/v5", "golang.org/x/sync"},
	},
	"internal/manifest": {ours: []string{"segment"}},
	"internal/compress": {ours: []string{"internal/codec", "internal/vfs", "segment"}},
	"segment":           {ours: []string{"internal/vfs"}},
	"storage":           {},
	"storage/local":     {ours: []string{"internal/vfs", "storage"}},
	"storage/s3": {
		ours:   []string{"storage"},
		theirs: []string{"github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go", "golang.org/x/sync"},
	},
	"internal/codec": {theirs: []string{"github.com/klauspost/compress", "github.com/pierrec/lz4/v4"}},
	"internal/crypt": {theirs: []string{"filippo.io/age"}},
	"internal/units": {},
	"internal/vfs":   {theirs: []string{"golang.org/x/sys"}},

	"bench":               {},
	"bench/meter":         {theirs: []string{"golang.org/x/sys"}},
	"integration":         {},
	"internal/demo":       {theirs: []string{"github.com/jackc/pgx/v5/pgconn"}},
	"internal/docs":       {theirs: []string{"github.com/yuin/goldmark"}},
	"internal/fakepg":     {theirs: []string{"github.com/jackc/pgx/v5/pgproto3", "github.com/xdg-go/scram"}},
	"internal/lint":       {},
	"internal/pgtest":     {theirs: []string{"github.com/jackc/pgx/v5/pgconn"}},
	"internal/s3test":     {theirs: []string{"github.com/aws/aws-sdk-go-v2"}},
	"packaging":           {},
	"tools/sbom":          {},
	"storage/storagetest": {ours: []string{"storage"}},
}

// inTestsOnly is what the code of the packages that are shipped never imports.
var inTestsOnly = []string{"testing", "github.com/chromedp/cdproto", "github.com/chromedp/chromedp", "github.com/google/go-cmp", "github.com/prometheus/exporter-toolkit", "go.uber.org/goleak", "pgregory.net/rapid"}

// importRule checks a file against the house. Tests are free to look beside and
// above, but not to hide where a name comes from.
func importRule(s *source) (faults []string) {
	for _, spec := range s.file.Imports {
		if spec.Name != nil && spec.Name.Name == "." {
			faults = append(faults, s.at(spec.Pos())+": a dot import hides where names come from")
		}
	}
	if s.isTest() || strings.Contains(s.path, "testdata/") {
		return faults
	}
	allowed, known := house[s.pkg()]
	if !known {
		return append(faults, s.path+": package "+s.pkg()+" has no import rule yet; add one to internal/lint")
	}
	for _, spec := range s.file.Imports {
		if name := strings.Trim(spec.Path.Value, `"`); !allowed.imports(s.pkg(), name) {
			faults = append(faults, s.at(spec.Pos())+": "+s.pkg()+" must not import "+name)
		}
	}
	return faults
}

func (m may) imports(pkg, name string) bool {
	if rest, ours := strings.CutPrefix(name, module+"/"); ours {
		return slices.Contains(m.ours, rest)
	}
	if within(name, inTestsOnly) {
		return slices.Contains(support, pkg)
	}
	if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	return within(name, m.theirs)
}

// within tells whether name is one of the paths or lies below one.
func within(name string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") })
}

func TestImportsPointDown(t *testing.T) { checkTree(t, importRule) }

func TestImportRuleFinds(t *testing.T) {
	ours := func(pkg string) string { return `import "` + module + "/" + pkg + `"` }
	checkSamples(t, importRule, []sample{
		{"receiver/a.go", ours("segment"), ""},
		{"receiver/a.go", ours("storage"), "receiver must not import"},
		{"receiver/a.go", ours("internal/archive"), "receiver must not import"},
		{"receiver/a.go", ours("internal/vfs"), "receiver must not import"},
		{"receiver/a_test.go", ours("internal/vfs"), ""},
		{"segment/a.go", `import "github.com/jackc/pgx/v5/pgconn"`, "segment must not import"},
		{"segment/a.go", ours("storage"), "segment must not import"},
		{"storage/local/a.go", ours("segment"), "storage/local must not import"},
		{"storage/a.go", ours("storage/local"), "storage must not import"},
		{"internal/vfs/a.go", `import "golang.org/x/sys/unix"`, ""},
		{"internal/vfs/a.go", `import "golang.org/x/system/unix"`, "must not import"},
		{"internal/archive/a.go", `import "github.com/klauspost/compress/zstd"`, "must not import"},
		{"cmd/walrecv/a.go", ours("internal/pgtest"), "must not import"},
		{"internal/restore/a.go", `import "testing"`, "must not import testing"},
		{"internal/pgtest/a.go", `import "testing"`, ""},
		{"internal/surprise/a.go", "", "has no import rule"},
		{"segment/a_test.go", `import . "strings"`, "dot import"},
	})
}

// TestHouseStands finds rules of packages that are gone.
func TestHouseStands(t *testing.T) {
	there := map[string]bool{}
	for _, s := range tree(t) {
		there[s.pkg()] = true
	}
	for pkg := range house {
		if !there[pkg] && !slices.Contains(support, pkg) {
			t.Errorf("there is a rule for %s and no such package", pkg)
		}
	}
}
