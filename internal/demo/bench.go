package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"
)

// benchClients are the connections of pgbench. As many of its transactions may
// be in doubt when the server is killed.
const benchClients = 4

// prepareBench makes pgbench's tables.
func prepareBench(ctx context.Context, s *stage, c *cluster, scale int) error {
	return s.tool(ctx, c.environment(), c.pg.program("pgbench"), "--initialize", "--quiet", "--scale", strconv.Itoa(scale))
}

// startBench starts pgbench, for longer than the demonstration takes.
func startBench(ctx context.Context, s *stage, c *cluster) (*process, error) {
	cmd := s.command(context.WithoutCancel(ctx), c.pg.program("pgbench"), "--no-vacuum", "--protocol", "prepared",
		"--client", strconv.Itoa(benchClients), "--jobs", "2", "--time", "600")
	cmd.Env = append(cmd.Env, c.environment()...)
	return s.start("pgbench", cmd)
}

var processed = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)

// benchSeen waits for the end of pgbench, which the death of the server brings,
// and returns how many transactions it saw committed.
func benchSeen(bench *process) (int64, error) {
	if _, err := bench.wait(20 * time.Second); err != nil {
		return 0, err
	}
	log, err := os.ReadFile(bench.log)
	if err != nil {
		return 0, err
	}
	match := processed.FindSubmatch(log)
	if match == nil {
		return 0, fmt.Errorf("pgbench does not say how many transactions it processed")
	}
	return strconv.ParseInt(string(match[1]), 10, 64)
}
