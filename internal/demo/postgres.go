package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// programs are what the demonstration uses of PostgreSQL.
var programs = []string{"initdb", "postgres", "pg_basebackup", "pgbench", "pg_amcheck"}

// oldest is the oldest major of PostgreSQL that walrecv speaks with.
const oldest = 13

// postgres is an installed PostgreSQL.
type postgres struct {
	bin     string // directory of its programs
	version string // such as "15.18"
	major   int
}

// findPostgres looks for the newest that is complete, or takes the given one.
func findPostgres(ctx context.Context, dir string) (postgres, error) {
	places := []string{dir}
	if dir == "" {
		places, _ = filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is good
	}
	var found []postgres
	var reasons error
	for _, bin := range places {
		pg, err := examine(ctx, bin)
		if err != nil {
			reasons = errors.Join(reasons, err)
			continue
		}
		found = append(found, pg)
	}
	if len(found) == 0 && reasons == nil {
		reasons = errors.New("there is none below /usr/lib/postgresql")
	}
	if len(found) == 0 {
		return postgres{}, fmt.Errorf("no complete PostgreSQL: %w; as root, tools/need pg15 gets one", reasons)
	}
	return slices.MaxFunc(found, func(a, b postgres) int { return a.major - b.major }), nil
}

var versionText = regexp.MustCompile(`^postgres \(PostgreSQL\) (([0-9]+)[^ \n]*)`)

func examine(ctx context.Context, bin string) (postgres, error) {
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return postgres{}, err
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return postgres{}, fmt.Errorf("%s/postgres --version: %w", bin, err)
	}
	match := versionText.FindStringSubmatch(string(out))
	if match == nil {
		return postgres{}, fmt.Errorf("%s/postgres --version: %q", bin, strings.TrimSpace(string(out)))
	}
	major, err := strconv.Atoi(match[2])
	if err != nil || major < oldest {
		return postgres{}, fmt.Errorf("%s holds PostgreSQL %s, and %d is the oldest that walrecv speaks with", bin, match[1], oldest)
	}
	return postgres{bin: bin, version: match[1], major: major}, nil
}

func (pg postgres) program(name string) string { return filepath.Join(pg.bin, name) }
