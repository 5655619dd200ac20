package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{context.Canceled, 1},
		{receiver.ErrSlotMissing, 1},
		{&receiver.ConnectError{Class: receiver.ClassFatal, Line: "no"}, 1},
		{&receiver.ConnectError{Class: receiver.ClassRetry, Line: "no"}, 1},
		{&receiver.UnsupportedError{Reason: "too old"}, 1},
		{&archive.DamagedError{Key: "k"}, 1},
		{usageError("no"), 2},
		{&receiver.ConnectError{Class: receiver.ClassUsage, Line: "no"}, 2},
		{&receiver.ConnInfoError{Reason: "no"}, 2},
		{&receiver.SlotNameError{Name: "pg-2"}, 2},
		{receiver.ErrSlotLogical, 2},
		{segment.ErrWrongCluster, 4},
		{segment.ErrBranch, 4},
		{segment.ErrHistoryConflict, 4},
		{&archive.WrongClusterError{}, 4},
		{&archive.ConflictError{Key: "k"}, 4},
		{&archive.FormatError{Key: "k", Format: 2}, 4},
		{&receiver.GapError{Err: errors.New("58P01")}, 5},
		{&receiver.GapError{Err: receiver.ErrSlotMissing}, 5},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%T %v: exit %d, want %d", c.err, c.err, got, c.want)
		}
		if c.err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("stream: %w", c.err)); got != c.want {
			t.Errorf("wrapped %T %v: exit %d, want %d", c.err, c.err, got, c.want)
		}
	}
}
