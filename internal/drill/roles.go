package drill

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Nobody says who the superuser of a restored cluster is, and the server lets in only
// whom it knows. So the roles are read from the table's file. What comes out are
// suggestions, tried one after the other: the server decides.

const (
	authID        = 1260 // OID of pg_authid, the same in every cluster
	bootstrapRole = 10   // OID of the role that initdb made
	mapMagic      = 0x592717
	pageSize      = 8192
	pageHeader    = 24
	nameLength    = 64
	maxRoleFile   = 8 << 20 // more than a hundred thousand of them need
)

// superusers lists roles that can log in and may do everything, the first one of the
// cluster first. postgres is always among them.
func superusers(data string) []string {
	const usual = "postgres"
	found := rolesIn(data)
	if !slices.Contains(found, usual) {
		found = append(found, usual)
	}
	return found
}

func rolesIn(data string) []string {
	mapped, err := os.ReadFile(filepath.Join(data, "global", "pg_filenode.map"))
	if err != nil {
		return nil
	}
	node := filenodeOf(mapped, authID)
	if node == 0 {
		return nil
	}
	f, err := os.Open(filepath.Join(data, "global", fmt.Sprint(node))) //nolint:gosec // of a directory that was made for a drill
	if err != nil {
		return nil
	}
	defer f.Close()
	var first, others []string
	page := make([]byte, pageSize)
	for at := int64(0); at < maxRoleFile; at += pageSize {
		if _, err := f.ReadAt(page, at); err != nil {
			break
		}
		for _, r := range rolesOn(page) {
			if r.oid == bootstrapRole {
				first = append(first, r.name)
			} else {
				others = append(others, r.name)
			}
		}
	}
	all := append(first, others...)
	var once []string
	for _, name := range all {
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once
}

// filenodeOf finds the file of a table in the map of the shared ones; 0 for none.
func filenodeOf(mapped []byte, oid uint32) uint32 {
	const head, pair = 8, 8
	if len(mapped) < head || binary.LittleEndian.Uint32(mapped) != mapMagic {
		return 0
	}
	n := int(binary.LittleEndian.Uint32(mapped[4:]))
	for i := range n {
		at := head + i*pair
		if i < 0 || at+pair > len(mapped) {
			break
		}
		if binary.LittleEndian.Uint32(mapped[at:]) == oid {
			return binary.LittleEndian.Uint32(mapped[at+4:])
		}
	}
	return 0
}

// role is a superuser that can log in.
type role struct {
	oid  uint32
	name string
}

// rolesOn reads a page of pg_authid: (oid, rolname, rolsuper, rolinherit,
// rolcreaterole, rolcreatedb, rolcanlogin, ...).
func rolesOn(page []byte) (found []role) {
	const (
		lower, item = 12, 4
		tupleHead   = 23
		hoffAt      = 22
		superAt     = 4 + nameLength
		loginAt     = superAt + 4
	)
	end := min(int(binary.LittleEndian.Uint16(page[lower:])), len(page)-item+1)
	for at := pageHeader; at+item <= end; at += item {
		pointer := binary.LittleEndian.Uint32(page[at:])
		offset, flags, length := int(pointer&0x7fff), pointer>>15&3, int(pointer>>17)
		const normal = 1
		if flags != normal || length < tupleHead || offset+length > len(page) {
			continue
		}
		tuple := page[offset : offset+length]
		hoff := int(tuple[hoffAt])
		if hoff < tupleHead || len(tuple) < hoff+loginAt+1 {
			continue
		}
		row := tuple[hoff:]
		name, _, _ := bytes.Cut(row[4:4+nameLength], []byte{0})
		if row[superAt] == 1 && row[loginAt] == 1 && len(name) > 0 {
			found = append(found, role{binary.LittleEndian.Uint32(row), string(name)})
		}
	}
	return found
}
