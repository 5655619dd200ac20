package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	// pressWithin is how long it may take to fill the wanted segments.
	pressWithin = time.Minute
	// recoverWithin is how long recovery may take.
	recoverWithin = time.Minute
)

// demo is one demonstration and what it has found out so far.
type demo struct {
	o   options
	s   *stage
	say *narrator
	pg  postgres

	primary  *cluster
	restored *cluster
	receiver *receiver
	load     *load
	bench    *process

	benchSeen int64             // transactions that pgbench saw committed
	segments  map[string]digest // of the primary's own files
	proofs    []string
}

// perform does it all. Nothing is left when it returns.
func perform(ctx context.Context, o options, stdout io.Writer) (err error) {
	begun := time.Now()
	d := &demo{o: o, say: &narrator{w: stdout}}
	if d.pg, err = findPostgres(ctx, o.postgres); err != nil {
		return err
	}
	if _, err := exec.LookPath("zstd"); err != nil {
		return fmt.Errorf("the archive is read with zstd, too: %w; as root, tools/need zstd gets it", err)
	}
	if d.s, err = newStage(); err != nil {
		return err
	}
	d.say.say("A PostgreSQL server is lost under load, with its data directory. walrecv gets back")
	d.say.say("every row that a client saw committed. (PostgreSQL %s, seed %d, %s)\n", d.pg.version, o.seed, d.s.dir)
	err = d.play(ctx)
	if err != nil && ctx.Err() == nil {
		d.showLogs()
	}
	if left := d.s.close(); left != nil {
		return fmt.Errorf("something in %s is left: %w (and before that: %v)", d.s.dir, left, err)
	}
	d.conclude(err == nil, time.Since(begun))
	return err
}

// play is the demonstration, step by step.
func (d *demo) play(ctx context.Context) error {
	port, release, err := reservePort()
	if err != nil {
		return err
	}
	defer func() { _ = release() }() // nothing was sent or received there
	program, err := d.s.install(d.o.walrecv, "walrecv")
	if err != nil {
		return fmt.Errorf("the walrecv binary: %w; make build builds it", err)
	}
	d.primary = &cluster{s: d.s, pg: d.pg, name: "primary", port: port}
	d.restored = &cluster{s: d.s, pg: d.pg, name: "restored", port: port}
	d.receiver = &receiver{s: d.s, program: program}
	for _, step := range []struct {
		text string
		do   func(context.Context) error
	}{
		{"Start a throwaway primary", d.startPrimary},
		{"Start walrecv receive: slot, spool, archive in a directory", d.startReceiver},
		{"Take a base backup, with no WAL in it", d.takeBackup},
		{"From now on a commit waits until walrecv has it on disk", d.requireReceiver},
		{"Write: clients that remember what they saw committed, and pgbench", d.write},
		{"Kill the primary with SIGKILL and remove its data directory", d.losePrimary},
		{"Stop walrecv with SIGTERM", d.stopReceiver},
		{"Start the base backup; walrecv restore is its restore_command", d.restore},
		{"Compare the rows with what the clients saw", d.compareRows},
		{"Check all tables and indexes with pg_amcheck", d.checkDatabase},
		{"Unpack the archive with plain zstd -d", d.unpack},
	} {
		if err := d.say.step(step.text, func() error { return step.do(ctx) }); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return nil
}

// conclude says what was shown, when nothing is left any more.
func (d *demo) conclude(success bool, took time.Duration) {
	if success {
		d.say.say("\nProved:")
		for _, proof := range d.proofs {
			d.say.say("  * %s", proof)
		}
	}
	d.say.say("\nAll processes are ended and %s is removed. It took %.0f s.", d.s.dir, took.Seconds())
}

// proved remembers what the end is about.
func (d *demo) proved(format string, args ...any) {
	d.proofs = append(d.proofs, fmt.Sprintf(format, args...))
}

// showLogs prints the ends of all logs that there are.
func (d *demo) showLogs() {
	const lines = 12
	logs, _ := filepath.Glob(d.s.path("*.log")) // the pattern is good
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			text = []byte(err.Error())
		}
		d.say.say("\nThe end of %s:\n%s", filepath.Base(log), lastLines(text, lines))
	}
}

func (d *demo) startPrimary(ctx context.Context) error {
	if err := d.primary.initialize(ctx); err != nil {
		return err
	}
	return d.primary.start(ctx)
}

func (d *demo) startReceiver(ctx context.Context) error {
	return d.receiver.start(ctx, d.primary)
}

// takeBackup makes the data directory that recovery begins with.
func (d *demo) takeBackup(ctx context.Context) error {
	if err := d.s.mkdir(d.restored.name); err != nil {
		return err
	}
	err := d.s.tool(ctx, d.primary.environment(), d.pg.program("pg_basebackup"), "-D", d.restored.dir(), "-X", "none", "-c", "fast", "--no-sync")
	if err != nil {
		return err
	}
	size, err := sizeOf(d.restored.dir())
	d.say.fact("%s", mib(size))
	return err
}

// sizeOf adds up the files of a directory.
func sizeOf(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// requireReceiver makes walrecv the synchronous standby. The base backup, which
// is there already, does not say so.
func (d *demo) requireReceiver(ctx context.Context) error {
	const sql = "alter system set synchronous_standby_names = '" + receiverName + "'"
	if err := d.primary.exec(ctx, sql); err != nil {
		return err
	}
	if err := d.primary.exec(ctx, "select pg_reload_conf()"); err != nil {
		return err
	}
	if err := d.receiver.await(ctx, d.primary, "sync_state", "sync"); err != nil {
		return err
	}
	d.say.fact("pg_stat_replication says: sync")
	return nil
}

func (d *demo) stopReceiver(context.Context) error {
	if err := d.receiver.stop(); err != nil {
		return err
	}
	archived, err := d.receiver.archived()
	if err != nil {
		return err
	}
	only, err := d.receiver.unarchived()
	d.say.fact("it ended with 0; the archive holds %s, the spool %d more", count(len(archived), "segment", "segments"), len(only))
	return err
}
