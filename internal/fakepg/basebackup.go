package fakepg

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
)

// BaseBackup is what a server of major 15 or newer sends for BASE_BACKUP, whatever
// its options are. The zero value is an empty data directory.
type BaseBackup struct {
	Start, End  uint64       // 0: the end of the server's WAL
	EndTimeline uint32       // 0: the server's
	Tablespaces []Tablespace // besides the data directory
	Base        []byte       // the tar of the data directory
	Manifest    []byte

	// Chunk is the most bytes of data in one message; 0: 32 KiB as PostgreSQL.
	Chunk int

	// Before is called on the connection's goroutine before every message of the
	// answer; send false leaves the message out. An error ends the connection,
	// [ErrAnswered] only the answer, which the function has ended then.
	Before func(c *Conn, message pgproto3.BackendMessage) (send bool, err error)
}

// Tablespace is one part of a [BaseBackup].
type Tablespace struct {
	OID      uint32
	Location string
	Tar      []byte
}

// ErrAnswered says that a hook has ended the answer to a command by itself.
var ErrAnswered = errors.New("answered")

// Gone is closed when the client has hung up.
func (c *Conn) Gone() <-chan struct{} { return c.gone }

// baseBackup answers BASE_BACKUP.
func (c *Conn) baseBackup() error {
	s := c.server
	b := s.config.BaseBackup
	s.mu.Lock()
	if b.Start == 0 {
		b.Start = s.end
	}
	if b.End == 0 {
		b.End = s.end
	}
	timeline := s.timeline
	s.mu.Unlock()
	if b.EndTimeline == 0 {
		b.EndTimeline = timeline
	}
	for _, message := range b.messages(timeline) {
		if b.Before != nil {
			send, err := b.Before(c, message)
			if errors.Is(err, ErrAnswered) {
				return nil
			}
			if err != nil {
				return err
			}
			if !send {
				continue
			}
		}
		if err := c.Send(message); err != nil {
			return err
		}
	}
	return nil
}

// messages is the whole answer.
func (b *BaseBackup) messages(timeline uint32) []pgproto3.BackendMessage {
	all := b.position(b.Start, timeline)
	rows := &pgproto3.RowDescription{}
	for _, name := range []string{"spcoid", "spclocation", "size"} {
		rows.Fields = append(rows.Fields, pgproto3.FieldDescription{Name: []byte(name)})
	}
	all = append(all, rows)
	for _, t := range b.Tablespaces {
		all = append(all, &pgproto3.DataRow{Values: [][]byte{fmt.Append(nil, t.OID), []byte(t.Location), kB(t.Tar)}})
	}
	all = append(all, &pgproto3.DataRow{Values: [][]byte{nil, nil, kB(b.Base)}}, complete("SELECT"), &pgproto3.CopyOutResponse{})
	done := 0
	for _, t := range append(b.Tablespaces[:len(b.Tablespaces):len(b.Tablespaces)], Tablespace{Tar: b.Base}) {
		name := "base.tar"
		if t.OID != 0 {
			name = fmt.Sprintf("%d.tar", t.OID)
		}
		all = append(all, copyData('n', fmt.Appendf(nil, "%s\x00%s\x00", name, t.Location)))
		all = b.data(all, t.Tar)
		done += len(t.Tar)
		all = append(all, copyData('p', binary.BigEndian.AppendUint64(nil, uint64(done))))
	}
	all = b.data(append(all, copyData('m', nil)), b.Manifest)
	all = append(all, &pgproto3.CopyDone{})
	all = append(all, b.position(b.End, b.EndTimeline)...)
	return append(all, complete("BASE_BACKUP"), &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// data appends the bytes of an archive.
func (b *BaseBackup) data(all []pgproto3.BackendMessage, p []byte) []pgproto3.BackendMessage {
	chunk := b.Chunk
	if chunk == 0 {
		chunk = 32 << 10
	}
	for len(p) > 0 {
		n := min(chunk, len(p))
		all = append(all, copyData('d', p[:n]))
		p = p[n:]
	}
	return all
}

// position is a result of one row.
func (b *BaseBackup) position(lsn uint64, timeline uint32) []pgproto3.BackendMessage {
	return []pgproto3.BackendMessage{
		&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("recptr")}, {Name: []byte("tli")}}},
		&pgproto3.DataRow{Values: [][]byte{[]byte(FormatLSN(lsn)), fmt.Append(nil, timeline)}},
		complete("SELECT"),
	}
}

func complete(tag string) *pgproto3.CommandComplete {
	return &pgproto3.CommandComplete{CommandTag: []byte(tag)}
}

func copyData(kind byte, p []byte) *pgproto3.CopyData {
	return &pgproto3.CopyData{Data: append([]byte{kind}, p...)}
}

// kB is a size as the server estimates it.
func kB(p []byte) []byte { return fmt.Append(nil, (len(p)+1023)/1024) }
