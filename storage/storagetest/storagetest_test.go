package storagetest_test

import (
	"testing"

	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestMem(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Store { return storagetest.NewMem() })
}

func TestSequentialMem(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Store {
		m := storagetest.NewMem()
		m.Sequential = true
		return m
	})
}

func TestMemWithDeadline(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Store {
		return storage.WithDeadline(storagetest.NewMem())
	})
}

func TestMemWithMeter(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		storagetest.Run(t, func(*testing.T) storage.Store {
			m := storagetest.NewMem()
			m.Sequential = sequential
			return storage.WithMeter(m, func(storage.Op, error) {})
		})
	}
}

// TestFaultlessFaulty: without faults a Faulty changes nothing.
func TestFaultlessFaulty(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Store {
		return storagetest.NewFaulty(storagetest.NewMem(), storagetest.FailAt(0, storagetest.Fault{}))
	})
}

// TestMemEarly: a Store of which nothing was begun early is as any other.
func TestMemEarly(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Store { return storage.NewEarly(storage.WithDeadline(storagetest.NewMem())) })
}
