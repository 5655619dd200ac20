package main

import (
	"log/slog"
	"net"
	"os"

	"github.com/walrecv/walrecv/internal/web"
)

// webAccess reads the file of --listen-config; nil without one.
func webAccess(file string, log *slog.Logger) (*web.Access, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // everybody may see everything
	}
	access, err := web.NewAccess(file, log)
	if err != nil {
		return nil, usageError("--listen-config: %w", err)
	}
	for _, key := range access.KeyFiles() {
		info, err := os.Stat(key)
		if err == nil {
			err = checkPrivate(key, "a private key", info)
		}
		if err != nil {
			return nil, usageError("--listen-config: %w", err)
		}
	}
	return access, nil
}

// checkReach refuses to tell everybody who can reach an address, unless that is what is
// wanted. It asks the listener, which knows what a name and a wildcard mean here.
func (c *receiveConfig) checkReach(at net.Addr, access *web.Access, log *slog.Logger) error {
	if !beyondThisHost(at) {
		return nil
	}
	switch {
	case access != nil && access.Secures():
		if !access.Encrypts() {
			log.Warn("passwords and all that is shown pass over the network unencrypted: add tls_server_config to the file of --listen-config", "address", at.String())
		}
	case !c.listenInsecure:
		return usageError("other machines can reach %s, and there is neither TLS nor a password: name a web configuration with --listen-config (docs/page.md), listen on 127.0.0.1, or say --listen-insecure if everybody may see what this receiver does", at)
	}
	return nil
}

// onlyHost is the host of --listen if nothing but its being on this machine keeps others
// away, which is not enough against the pages that a browser here shows; else "".
func (c *receiveConfig) onlyHost(at net.Addr, access *web.Access) string {
	_, tcp := at.(*net.TCPAddr)
	if !tcp || beyondThisHost(at) || c.listenInsecure || access != nil && access.Secures() {
		return ""
	}
	host, _, _ := net.SplitHostPort(c.listen) // it was parsed before
	return host
}

// beyondThisHost tells whether others than this machine can reach an address.
func beyondThisHost(at net.Addr) bool {
	switch a := at.(type) {
	case *net.TCPAddr:
		return !a.IP.IsLoopback()
	case *net.UnixAddr:
		return false
	}
	return true
}
