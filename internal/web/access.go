package web

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/bcrypt"

	"github.com/walrecv/walrecv/internal/monitor"
)

// Access says who may see what is served, by a web configuration in the format of
// Prometheus' exporter-toolkit. That package itself would make the program larger by
// two fifths, and lets nobody ask without credentials, which probes have not.
type Access struct {
	file string
	log  *slog.Logger
	salt []byte // of the digests of passwords

	checking sync.Mutex // held while a password is checked, which takes a processor

	policy atomic.Pointer[policy]  // what is in force
	look   func() (struct{}, bool) // compares it with the files, for one at a time

	complaint string // about what the files hold now; "" if that is in force. Owned by reread
}

// NewAccess reads a web configuration.
func NewAccess(file string, log *slog.Logger) (*Access, error) {
	p, err := readPolicy(file)
	if err != nil {
		return nil, err
	}
	a := &Access{file: file, log: log, salt: make([]byte, sha256.Size)}
	if _, err := rand.Read(a.salt); err != nil {
		return nil, err
	}
	a.policy.Store(p)
	a.look = monitor.Cached(func() (struct{}, error) { a.reread(); return struct{}{}, nil })
	return a, nil
}

// Secures tells whether not everybody may see what is served, or what passes by.
func (a *Access) Secures() bool { return a.policy.Load().secures() }

// Encrypts tells whether there is TLS.
func (a *Access) Encrypts() bool { return a.policy.Load().tls != nil }

// KeyFiles are the files with private keys.
func (a *Access) KeyFiles() []string { return a.policy.Load().keys }

// now is the policy in force. Files that have changed count within a second. Nobody waits
// for them for long: a file system can hang, and what was in force stays meanwhile.
func (a *Access) now() *policy {
	a.look()
	return a.policy.Load()
}

// reread takes over files that have changed, unless they are broken (they may be half
// written) or would let in everybody.
func (a *Access) reread() {
	before := a.policy.Load()
	p, err := readPolicy(a.file)
	switch {
	case err == nil && (before.tls == nil) != (p.tls == nil):
		err = errors.New("TLS begins and ends with a restart")
	case err == nil && before.asks() && !p.asks():
		err = errors.New("nobody would have to show a password or a certificate any more")
	}
	switch {
	case err != nil:
		if err.Error() != a.complaint {
			a.complaint = err.Error()
			a.log.Warn("the web configuration has changed and cannot be used; what was in force stays: correct it, or restart walrecv", "file", a.file, "error", err)
		}
	case !bytes.Equal(p.files, before.files):
		a.log.Info("the web configuration has changed and is in force", "file", a.file)
		fallthrough
	case a.complaint != "":
		a.complaint = ""
		a.policy.Store(p)
	}
}

// listener adds TLS to a listener if there is to be any.
func (a *Access) listener(l net.Listener) net.Listener {
	if a == nil || !a.Encrypts() {
		return l
	}
	return tls.NewListener(l, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return a.now().tls, nil
	}, MinVersion: tls.VersionTLS12})
}

// guard lets those ask who may. Some paths are open to everybody.
func (a *Access) guard(h http.Handler, open ...string) http.Handler {
	if a == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(open, r.URL.Path) {
			p := a.now()
			p.set(w.Header())
			switch {
			case p.limiter != nil && !p.limiter.Allow():
				http.Error(w, "too many requests", http.StatusTooManyRequests)
				return
			case p.clientCert && (r.TLS == nil || len(r.TLS.PeerCertificates) == 0):
				http.Error(w, "a client certificate is needed", http.StatusForbidden)
				return
			case len(p.users) > 0 && !a.knows(p, r):
				w.Header().Set("WWW-Authenticate", `Basic realm="walrecv"`)
				http.Error(w, "a user and a password are needed", http.StatusUnauthorized)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// knows checks user and password. Who was known once is known at once the next time: a
// check takes a processor for some time, on purpose.
func (a *Access) knows(p *policy, r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	if !ok {
		return false
	}
	hash, there := p.users[user]
	if !there { // and takes as long
		hash = p.users[slices.Min(slices.Collect(maps.Keys(p.users)))]
	}
	mac := hmac.New(sha256.New, a.salt)
	mac.Write([]byte(hash + "\x00" + password))
	digest := mac.Sum(nil)
	if known, seen := p.known.Load(user); there && seen && hmac.Equal(known.([]byte), digest) {
		return true
	}
	a.checking.Lock()
	err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
	a.checking.Unlock()
	if err != nil || !there {
		return false
	}
	p.known.Store(user, digest) // one for each user that there is
	return true
}
