package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

const (
	clients = 4 // that remember what they saw committed

	// maxPayload is the length of the longest payload of a row, in bytes before
	// they are written as twice as many digits.
	maxPayload = 1000
)

// rowsTable holds what the clients write.
const rowsTable = `create table demo_rows (client int, n int, payload text, primary key (client, n))`

// client writes one row per transaction, numbered from 1, and remembers which
// one it saw committed last: as it waits for every answer, it saw all before,
// too.
type client struct {
	id   int
	seed uint64
	sent atomic.Int64 // the last row that was sent
	seen atomic.Int64 // the last row whose COMMIT returned
}

// payload is what row n of a client holds: as good as random, and found again
// without being remembered.
func payload(seed uint64, client, n int) string {
	random := rand.New(rand.NewPCG(seed, uint64(client)<<32|uint64(n)))
	data := make([]byte, random.IntN(maxPayload))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return hex.EncodeToString(data)
}

// run writes rows until something fails, as it does when the server is killed.
func (c *client) run(ctx context.Context, primary *cluster) error {
	conn, err := primary.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the server may be gone
	for n := 1; ; n++ {
		c.sent.Store(int64(n))
		sql := fmt.Sprintf("begin; insert into demo_rows values (%d, %d, '%s'); commit", c.id, n, payload(c.seed, c.id, n))
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return err
		}
		c.seen.Store(int64(n))
	}
}

// load is all clients at work.
type load struct {
	clients []*client
	failed  chan error // what ended a client; room for all of them
	stop    context.CancelFunc
	all     sync.WaitGroup
}

// startLoad starts the clients. The caller ends them with end.
func startLoad(ctx context.Context, primary *cluster, seed uint64) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{failed: make(chan error, clients), stop: cancel}
	for id := range clients {
		c := &client{id: id, seed: seed}
		l.clients = append(l.clients, c)
		l.all.Go(func() {
			l.failed <- fmt.Errorf("client %d: %w", c.id, c.run(ctx, primary))
		})
	}
	return l
}

// end waits for the clients, which the death of the server ends.
func (l *load) end() {
	l.stop()
	l.all.Wait()
}

// seen is how many rows the clients saw committed.
func (l *load) seen() int64 {
	var sum int64
	for _, c := range l.clients {
		sum += c.seen.Load()
	}
	return sum
}
