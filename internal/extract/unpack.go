package extract

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/walrecv/walrecv/internal/manifest"
)

// Files of a data directory that are not just written.
const (
	controlFile  = "global/pg_control"
	mapFile      = "tablespace_map"
	manifestFile = "backup_manifest"
	linkDir      = "pg_tblspc"
)

const (
	// piece is how much of a file is in memory at a time, in bytes.
	piece = 256 << 10

	// maxSmall bounds the files that are kept in memory: pg_control has 8 KiB, and
	// tablespace_map a line for each tablespace.
	maxSmall = 4 << 20
)

// unpacking is the work on one object. After a failure of the store it is begun
// again, and leaves out what was done.
type unpacking struct {
	x     *extraction
	space *space
	file  string // name of the object
	done  int    // entries of the tar that are done
	buf   []byte // piece bytes
}

// unpack extracts a tar. All of r is read, which proves it.
func (u *unpacking) unpack(r io.Reader) error {
	in := &input{r: r}
	t := tar.NewReader(in)
	for i := 0; ; i++ {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return u.unreadable(in, err)
		}
		if i < u.done {
			continue
		}
		if err := u.entry(h, t, in); err != nil {
			return err
		}
		u.done++
	}
	return u.end(in)
}

// end reads what stands behind the last file: nothing but zeros.
func (u *unpacking) end(in *input) error {
	for {
		n, err := in.Read(u.buf)
		if len(bytes.Trim(u.buf[:n], "\x00")) > 0 {
			return u.damaged("something stands behind its end")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// entry makes what one entry of a tar is.
func (u *unpacking) entry(h *tar.Header, content io.Reader, in *input) error {
	// Servers write "./pg_wal/archive_status/", and all other names without the dot.
	name := strings.TrimPrefix(strings.TrimSuffix(h.Name, "/"), "./")
	if !manifest.ValidPath(name) {
		return u.damaged("%q is not the name of a file below a directory", h.Name)
	}
	if u.x.isLink(u.space, name) {
		return u.link(h, name)
	}
	mode := fs.FileMode(h.Mode) & fs.ModePerm
	switch h.Typeflag {
	case tar.TypeDir:
		return disk(u.space.mkdir(name, mode))
	case tar.TypeReg:
		return u.regular(name, mode, h.Size, content, in)
	}
	return u.damaged("%q is neither a file nor a directory", h.Name)
}

// isLink tells whether a name is that of a link to a tablespace, or of something
// below it.
func (x *extraction) isLink(s *space, name string) bool {
	rest, ok := strings.CutPrefix(name, linkDir+"/")
	if !ok || s.oid != 0 {
		return false
	}
	oid, _, _ := strings.Cut(rest, "/")
	return x.spaceOf(oid) != nil
}

// spaceOf finds the tablespace with an OID.
func (x *extraction) spaceOf(oid string) *space {
	for _, s := range x.spaces[1:] {
		if strconv.FormatUint(uint64(s.oid), 10) == oid {
			return s
		}
	}
	return nil
}

// link takes the link of a tablespace, which is made in the end, for what it is.
// Nothing else may stand there.
func (u *unpacking) link(h *tar.Header, name string) error {
	s := u.x.spaceOf(path.Base(name))
	if h.Typeflag != tar.TypeSymlink || s == nil || path.Dir(name) != linkDir || h.Linkname != s.tablespace.Location {
		return u.damaged("%q is in the place of a tablespace", h.Name)
	}
	return nil
}

// regular makes a file, or keeps it in memory if it is a special one.
func (u *unpacking) regular(name string, mode fs.FileMode, size int64, content io.Reader, in *input) (err error) {
	f, listed := u.x.manifest.Find(u.space.prefix + name)
	switch {
	case !listed:
		return u.damaged("%q is not in the backup manifest", name)
	case size != f.Size:
		return u.damaged("%q has %d bytes, and %d in the backup manifest", name, size, f.Size)
	case u.x.seen[f.Index].Swap(true):
		return u.damaged("%q comes twice", name)
	}
	defer func() {
		if err != nil {
			u.x.seen[f.Index].Store(false) // the next try begins with it
		}
	}()
	if u.space.oid == 0 && (name == controlFile || name == mapFile) {
		return u.small(f, name, mode, content, in)
	}
	out, err := u.space.create(name, mode)
	if err != nil {
		return disk(err)
	}
	if err := u.copy(out, f, name, content, in); err != nil {
		return errors.Join(err, out.Close(), disk(u.space.root.Remove(name)))
	}
	return disk(out.Close())
}

// copy writes the content of a file and compares it with the manifest.
func (u *unpacking) copy(out io.Writer, f manifest.File, name string, content io.Reader, in *input) error {
	checker, counted := f.NewChecker(), int64(0)
	for {
		n, err := content.Read(u.buf)
		if n > 0 {
			counted += int64(n)
			_, _ = checker.Write(u.buf[:n]) // which never fails
			if _, err := out.Write(u.buf[:n]); err != nil {
				return disk(err)
			}
			u.x.progress(int64(n))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			u.x.progress(-counted) // it comes again
			return u.unreadable(in, err)
		}
	}
	if wrong := checker.Mismatch(); wrong != "" {
		return u.damaged("%q is not what the server sent: %s", name, wrong)
	}
	return nil
}

// small reads a file that is not just written.
func (u *unpacking) small(f manifest.File, name string, mode fs.FileMode, content io.Reader, in *input) error {
	if f.Size > maxSmall {
		return u.damaged("%q has %d bytes", name, f.Size)
	}
	var buf bytes.Buffer
	if err := u.copy(&buf, f, name, content, in); err != nil {
		return err
	}
	if name == controlFile {
		return u.x.keepControl(buf.Bytes(), mode)
	}
	return u.x.writeMap(u.space, f, mode, buf.Bytes())
}

// unreadable says what an error of the tar means: it is the store's, or the object is
// not a tar.
func (u *unpacking) unreadable(in *input, err error) error {
	if in.err != nil {
		return in.err
	}
	return u.damaged("%w", err)
}

func (u *unpacking) damaged(format string, args ...any) error {
	return u.x.damaged("%s: %w", u.file, fmt.Errorf(format, args...))
}

// input keeps the error of a reader, which a tar may hide.
type input struct {
	r   io.Reader
	err error // other than io.EOF
}

// Read implements io.Reader.
func (i *input) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if err != nil && err != io.EOF {
		i.err = err
	}
	return n, err
}

// disk marks an error as one of this host's disk.
func disk(err error) error {
	if err == nil {
		return nil
	}
	return &diskError{err}
}
