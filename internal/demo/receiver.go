package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	receiverUser = "walrecv" // the role that walrecv connects as
	receiverName = "walrecv" // its application_name, by default
	slotName     = "walrecv"

	// stopWithin is how long walrecv receive may take to end after SIGTERM.
	stopWithin = 10 * time.Second
)

// receiver is a running "walrecv receive" and what it writes.
type receiver struct {
	s       *stage
	program string
	*process
}

func (r *receiver) spool() string   { return r.s.path("spool") }
func (r *receiver) archive() string { return r.s.path("archive") }

// credentials makes the role on the primary that walrecv connects as, with a
// password that is in a password file.
func (r *receiver) credentials(ctx context.Context, c *cluster) error {
	secret := rand.Text()
	err := c.exec(ctx, fmt.Sprintf("create role %s login replication password '%s'", receiverUser, secret))
	if err != nil {
		return err
	}
	line := fmt.Sprintf("127.0.0.1:%d:*:%s:%s\n", c.port, receiverUser, secret)
	return r.s.write(r.s.path("pgpass"), line)
}

// arguments are the command line.
func (r *receiver) arguments(c *cluster) []string {
	return []string{
		"receive", "-h", "127.0.0.1", "-p", strconv.Itoa(c.port), "-U", receiverUser,
		"-D", r.spool(), "-S", slotName, "--ensure-slot", "--synchronous", "--archive", r.archive(),
	}
}

// start starts walrecv and waits until it streams.
func (r *receiver) start(ctx context.Context, c *cluster) error {
	for _, name := range []string{"spool", "archive"} {
		if err := r.s.mkdir(name); err != nil {
			return err
		}
	}
	if err := r.credentials(ctx, c); err != nil {
		return err
	}
	cmd := r.s.command(context.WithoutCancel(ctx), r.program, r.arguments(c)...)
	cmd.Env = append(cmd.Env, "PGPASSFILE="+r.s.path("pgpass"))
	var err error
	if r.process, err = r.s.start("walrecv-receive", cmd); err != nil {
		return err
	}
	return r.await(ctx, c, "state", "streaming")
}

// await waits until the primary says something of walrecv's connection.
func (r *receiver) await(ctx context.Context, c *cluster, column, want string) error {
	sql := fmt.Sprintf("select %s from pg_stat_replication where application_name = '%s'", column, receiverName)
	return poll(ctx, startWithin, func() (bool, error) {
		if how, ended := r.ended(); ended {
			return false, fmt.Errorf("walrecv receive ended: %s", how)
		}
		got, err := c.value(ctx, sql)
		return got == want, err
	}, fmt.Sprintf("pg_stat_replication did not say %q of walrecv", want))
}

// stop asks walrecv to end and tells whether it does as it has to.
func (r *receiver) stop() error {
	if how, ended := r.ended(); ended {
		return fmt.Errorf("walrecv receive ended by itself: %s", how)
	}
	if err := r.signal(syscall.SIGTERM); err != nil {
		return err
	}
	code, err := r.wait(stopWithin)
	if err != nil {
		return fmt.Errorf("after SIGTERM, %w", err)
	}
	if code != 0 {
		return fmt.Errorf("after SIGTERM, walrecv receive ended with %d instead of 0", code)
	}
	return nil
}

// restoreCommand is PostgreSQL's restore_command, as walrecv documents it.
func (r *receiver) restoreCommand() string {
	return fmt.Sprintf("answer() { r=$?; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r; }; trap answer EXIT; %s restore --archive %s --spool %s %%f %%p",
		r.program, r.archive(), r.spool())
}

var (
	archivedSegment = regexp.MustCompile(`^[0-9A-F]{24}\.zst$`)
	spooledSegment  = regexp.MustCompile(`^[0-9A-F]{24}(\.partial)?$`)
)

// archived lists the files of the archived segments, in order.
func (r *receiver) archived() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(r.archive(), "[0-9]*", "wal", "*", "*.zst"))
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(f string) bool { return !archivedSegment.MatchString(filepath.Base(f)) })
	slices.Sort(files)
	return files, nil
}

// unarchived lists the segments that only the spool holds.
func (r *receiver) unarchived() ([]string, error) {
	entries, err := os.ReadDir(r.spool())
	if err != nil {
		return nil, err
	}
	archived, err := r.archived()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		there := slices.ContainsFunc(archived, func(f string) bool { return filepath.Base(f) == entry.Name()+".zst" })
		if spooledSegment.MatchString(entry.Name()) && !there {
			found = append(found, entry.Name())
		}
	}
	return found, nil
}

// segmentOf is the name of the segment that an archived file holds.
func segmentOf(file string) string { return strings.TrimSuffix(filepath.Base(file), ".zst") }
