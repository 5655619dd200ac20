package archive

import (
	"context"
	"strings"

	"github.com/walrecv/walrecv/storage"
)

// EachBackupObject calls fn for everything below the directories of base backups, of
// all or, where id is not "", of one, in order of the keys. File is what stands
// behind the backup's directory, and need not be anything that this version knows.
func (a *Archive) EachBackupObject(ctx context.Context, id string, fn func(id, file string, info storage.Info) error) error {
	dir := systemDir(a.id.SystemID) + baseBackupDir + "/"
	prefix := dir
	if id != "" {
		prefix += id + "/"
	}
	return a.store.List(ctx, prefix, func(info storage.Info) error {
		id, file, ok := strings.Cut(strings.TrimPrefix(info.Key, dir), "/")
		if !ok || !IsID(id) {
			return nil
		}
		return fn(id, file, info)
	})
}

// BackupKey is the key of something below the directory of a base backup.
func (a *Archive) BackupKey(id, file string) string {
	return systemDir(a.id.SystemID) + baseBackupDir + "/" + id + "/" + file
}

// PutBackupDocument archives [BackupStart] or [BackupEnd] of a base backup. nil says
// that the archive durably holds exactly these bytes, from this call or from an
// earlier one. An error that wraps fs.ErrExist says that it holds others.
func (a *Archive) PutBackupDocument(ctx context.Context, id, file string, content []byte) error {
	return a.putDocument(ctx, Object{Kind: KindBaseBackup, ID: id, File: file}, content)
}

// BackupDocument reads [BackupStart] or [BackupEnd] of a base backup. An error that
// wraps fs.ErrNotExist says that there is none.
func (a *Archive) BackupDocument(ctx context.Context, id, file string) ([]byte, error) {
	return a.document(ctx, Object{Kind: KindBaseBackup, ID: id, File: file})
}
