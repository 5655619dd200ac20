package receiver

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// TestReadable: the wait ends with what comes, with the connection, or with patience.
func TestReadable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	readableOf(near, time.Millisecond).wait()
	patient := readableOf(near, 24*time.Hour)
	if _, err := far.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	patient.wait()
	if n := testing.AllocsPerRun(100, patient.wait); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if n, err := near.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	patient.wait()
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	patient.wait()

	if r := readableOf(tls.Client(near, nil), 24*time.Hour); r != nil {
		t.Error("waits below TLS, which may have read what comes next already")
	} else {
		r.wait()
	}
}
