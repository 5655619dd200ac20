// Package integration tests the walrecv binary against real PostgreSQL servers:
// what it keeps is compared with the servers' own files and rows.
package integration
