package receiver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
)

// certificate makes a self-signed certificate for db1 and its PEM file.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db1"}, DNSNames: []string{"db1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	path := writeFile(t, filepath.Join(t.TempDir(), "root.crt"), string(text), 0o644)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// sockets is where servers are reached by name over TCP: a TLS handshake that
// fails needs a connection that buffers.
type sockets map[string]*fakepg.Server

func (s sockets) dial(ctx context.Context, nw, address string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	server, ok := s[name]
	if !ok { // a request to cancel goes to the address of the connection
		return new(net.Dialer).DialContext(ctx, nw, address)
	}
	listening, err := server.Listen()
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, nw, listening)
}

func TestTLS(t *testing.T) {
	cert, root := certificate(t)
	_, otherRoot := certificate(t)
	secure := fake(t, fakepg.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	old := fake(t, fakepg.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}})
	strict := fake(t, fakepg.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert}})
	plain := fake(t, fakepg.Config{})
	hosts := sockets{"db1": secure, "db2": secure, "10.1.1.1": secure, "old": old, "strict": strict, "plain": plain}
	for _, test := range []struct {
		conninfo string
		version  uint16 // 0: not TLS
		line     string // of a failure that lasts
	}{
		{"host=db1 sslmode=verify-full sslrootcert=" + root, tls.VersionTLS13, ""},
		{"host=db1 sslmode=verify-full ssl_max_protocol_version=TLSv1.2 sslrootcert=" + root, tls.VersionTLS12, ""},
		{"host=old sslmode=require", tls.VersionTLS12, ""},
		{"host=old sslmode=require ssl_min_protocol_version=TLSv1.3", 0, "TLS failed"},
		{"host=db2 sslmode=verify-full sslrootcert=" + root, 0, "db2"},
		{"host=db2 sslmode=verify-ca sslrootcert=" + root, tls.VersionTLS13, ""},
		{"host=db2 hostaddr=10.1.1.1 sslmode=verify-full sslrootcert=" + root, 0, "db2"},
		{"host=db1 sslmode=verify-ca sslrootcert=" + otherRoot, 0, "sslrootcert=" + otherRoot},
		{"host=db1 sslmode=verify-full sslrootcert=" + otherRoot, 0, "sslrootcert=" + otherRoot},
		{"host=db1 sslmode=prefer", tls.VersionTLS13, ""},
		{"host=plain sslmode=prefer", 0, ""},
		{"host=plain sslmode=require", 0, "refused TLS"},
		{"host=strict sslmode=require", 0, "TLS failed"},
		{"host=db1 sslmode=require require_auth=scram-sha-256", 0, "connection options"},
		{"host=db1 sslmode=require channel_binding=require", 0, "connection options"},
	} {
		conn, failure := connectTo(t, parse(t, ConnOptions{Conninfo: test.conninfo + " user=u", Dial: hosts.dial}))
		if failure != nil {
			if test.line == "" || failure.Class != ClassFatal || !strings.Contains(failure.Error(), test.line) {
				t.Errorf("%s: %v: %v", test.conninfo, failure.Class, failure)
			}
			continue
		}
		var version uint16
		if secured, ok := conn.Conn().(*tls.Conn); ok {
			version = secured.ConnectionState().Version
		}
		if test.line != "" || version != test.version {
			t.Errorf("%s: connected, version %s", test.conninfo, fmt.Sprint(version))
		}
	}
}

// A certificate that is replaced while the receiver runs is no mistake of usage,
// and counts from the next attempt on.
func TestCertificateReplaced(t *testing.T) {
	cert, root := certificate(t)
	server := fake(t, fakepg.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	good, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, ConnOptions{
		Conninfo: "host=db1 user=u sslmode=verify-full sslrootcert=" + root, Dial: sockets{"db1": server}.dial,
	})
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	if _, failure := connectTo(t, c); failure == nil || failure.Class != ClassFatal || !strings.Contains(failure.Error(), root) {
		t.Errorf("without the file: %v", failure)
	}
	writeFile(t, root, string(good), 0o644)
	if _, failure := connectTo(t, c); failure != nil {
		t.Errorf("with the file: %v", failure)
	}
}
