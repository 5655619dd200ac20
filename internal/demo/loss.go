package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// write keeps the primary busy until there is enough to lose.
func (d *demo) write(ctx context.Context) error {
	if err := d.primary.exec(ctx, rowsTable); err != nil {
		return err
	}
	if err := prepareBench(ctx, d.s, d.primary, d.o.scale); err != nil {
		return err
	}
	d.load = startLoad(ctx, d.primary, d.o.seed)
	var err error
	if d.bench, err = startBench(ctx, d.s, d.primary); err != nil {
		return err
	}
	if err := d.press(ctx); err != nil {
		return err
	}
	// At a random moment: no record, page or segment ends there by design.
	random := rand.New(rand.NewPCG(d.o.seed, 0))
	return d.busyFor(ctx, time.Duration(random.Int64N(int64(time.Second))))
}

// press waits until there was load for long enough, and enough is archived. On
// the way it ends a segment early, which leaves zeros at its end.
func (d *demo) press(ctx context.Context) error {
	for range 2 {
		if err := d.busyFor(ctx, d.o.load/2); err != nil {
			return err
		}
		if err := d.primary.exec(ctx, "select pg_switch_wal()"); err != nil {
			return err
		}
	}
	var archived []string
	err := poll(ctx, pressWithin, func() (bool, error) {
		if err := d.busy(); err != nil {
			return false, err
		}
		var err error
		archived, err = d.receiver.archived()
		return len(archived) >= d.o.segments, err
	}, fmt.Sprintf("%d segments were not archived", d.o.segments))
	if err != nil {
		return err
	}
	if d.segments, err = digestSegments(d.primary, archived); err != nil {
		return err
	}
	end, err := d.primary.value(ctx, "select pg_current_wal_insert_lsn()")
	d.say.fact("the primary has written WAL up to %s; %s archived so far", end, count(len(archived), "segment is", "segments are"))
	return err
}

// busyFor waits, and sees to it that everybody is at work.
func (d *demo) busyFor(ctx context.Context, wait time.Duration) error {
	until := time.Now().Add(wait)
	return poll(ctx, wait+time.Minute, func() (bool, error) { return time.Now().After(until), d.busy() }, "time stood still")
}

// busy tells who is not at work.
func (d *demo) busy() error {
	select {
	case err := <-d.load.failed:
		return fmt.Errorf("before the primary was killed, %w", err)
	default:
	}
	for _, p := range []*process{d.primary.server, d.receiver.process, d.bench} {
		if how, ended := p.ended(); ended {
			return fmt.Errorf("under load, %s ended: %s", p.name, how)
		}
	}
	return nil
}

// losePrimary kills the server under load, with all its children and its data.
func (d *demo) losePrimary(context.Context) error {
	if err := d.busy(); err != nil {
		return err
	}
	if err := d.primary.destroy(); err != nil {
		return err
	}
	d.load.end()
	var err error
	if d.benchSeen, err = benchSeen(d.bench); err != nil {
		return err
	}
	if d.load.seen() == 0 || d.benchSeen == 0 {
		return errors.New("no client saw anything committed")
	}
	d.say.fact("%d clients saw %d rows committed; pgbench saw %d transactions", clients, d.load.seen(), d.benchSeen)
	return nil
}

// restore recovers the base backup with what walrecv kept, until the server
// ends recovery by itself.
func (d *demo) restore(ctx context.Context) error {
	c := d.restored
	if err := c.configure("restore_command = '" + d.receiver.restoreCommand() + "'\n" + c.address("")); err != nil {
		return err
	}
	if err := c.s.write(c.s.path(c.name+"/recovery.signal"), ""); err != nil {
		return err
	}
	if err := c.start(ctx); err != nil {
		return err
	}
	err := c.await(ctx, recoverWithin, "select pg_is_in_recovery()", "f", "recovery did not end")
	if err != nil {
		return err
	}
	timeline, err := c.value(ctx, "select timeline_id from pg_control_checkpoint()")
	d.say.fact("recovery ended by itself; the server is a primary on timeline %s", timeline)
	return err
}

func (d *demo) compareRows(ctx context.Context) error {
	rows, err := rowsOf(ctx, d.restored)
	if err != nil {
		return err
	}
	inDoubt, err := compare(rows, d.load.clients)
	if err != nil {
		return err
	}
	benchInDoubt, err := compareBench(ctx, d.restored, d.benchSeen)
	if err != nil {
		return err
	}
	d.proved("All %d rows that a client saw committed are there, unaltered (and %d of those that were\n"+
		"    under way when the primary died).", d.load.seen(), inDoubt)
	d.proved("All %d transactions that pgbench saw committed are there (and %d that were under way), and\n"+
		"    its balances agree.", d.benchSeen, benchInDoubt)
	return nil
}

func (d *demo) checkDatabase(ctx context.Context) error {
	if err := checkDatabase(ctx, d.restored); err != nil {
		return err
	}
	d.proved("pg_amcheck finds every table and index sound.")
	return nil
}

func (d *demo) unpack(ctx context.Context) error {
	archived, err := d.receiver.archived()
	if err != nil {
		return err
	}
	n, err := compareSegments(ctx, d.s, archived, d.segments)
	if err != nil {
		return err
	}
	if n < d.o.segments {
		return fmt.Errorf("only %d segments could be compared with the primary's own", n)
	}
	d.proved("%s, unpacked with zstd alone, equal the primary's own files byte for byte.", count(n, "archived segment", "archived segments"))
	return nil
}
