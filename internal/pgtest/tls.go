package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// certificates are the files of a run's own authority and of the one
// certificate that all its servers show.
type certificates struct {
	ca, cert, key string
}

func (f certificates) settings() map[string]string {
	return map[string]string{"ssl": "on", "ssl_ca_file": f.ca, "ssl_cert_file": f.cert, "ssl_key_file": f.key}
}

var (
	tlsOnce  sync.Once
	tlsOfRun certificates
	errTLS   error
)

func tlsFiles(r *run) (certificates, error) {
	tlsOnce.Do(func() { tlsOfRun, errTLS = makeCertificates(r) })
	return tlsOfRun, errTLS
}

func makeCertificates(r *run) (certificates, error) {
	dir, err := r.mkdir(r.dir, "tls")
	if err != nil {
		return certificates{}, err
	}
	f := certificates{filepath.Join(dir, "ca.crt"), filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")}
	year := time.Now().Add(365 * 24 * time.Hour)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pgtest authority"}, NotAfter: year,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotAfter: year,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return f, err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return f, err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return f, err
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, serverKey.Public(), caKey)
	if err != nil {
		return f, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return f, err
	}
	return f, errors.Join(
		r.writePEM(f.ca, "CERTIFICATE", caDER),
		r.writePEM(f.cert, "CERTIFICATE", serverDER),
		r.writePEM(f.key, "PRIVATE KEY", keyDER),
	)
}

func (r *run) writePEM(path, kind string, der []byte) error {
	return r.writeFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
