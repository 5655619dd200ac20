package main

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/walrecv/walrecv/internal/extract"
)

// serverUser is whom packages make for servers.
const serverUser = "postgres"

// account is for whom files are made, where root makes them.
type account struct {
	name     string
	uid, gid uint32
	groups   []uint32
}

// ownerFor says to whom a restored data directory will belong; nil: to who runs this.
// PostgreSQL does not run as root, so what root restores is for somebody else.
func ownerFor(dir string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else
	}
	info, err := os.Stat(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			a := &account{name: strconv.FormatUint(uint64(st.Uid), 10), uid: st.Uid, gid: st.Gid}
			if u, err := user.LookupId(a.name); err == nil {
				a.name, a.groups = u.Username, groupsOf(u)
			}
			return a, nil
		}
	}
	u, err := user.Lookup(serverUser)
	if err != nil {
		return nil, usageError("PostgreSQL refuses to run as root, and there is no user %s: make %s empty for the user who will run the server, or run this as that user", serverUser, dir)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &account{name: u.Username, uid: uint32(uid), gid: uint32(gid), groups: groupsOf(u)}, nil
}

// groupsOf are the groups that a user is in, as far as they can be found out.
func groupsOf(u *user.User) (groups []uint32) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups
}

func (a *account) ids() *extract.Owner {
	if a == nil {
		return nil
	}
	return &extract.Owner{UID: int(a.uid), GID: int(a.gid)}
}

func (a *account) credential() *syscall.Credential {
	return &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
}
