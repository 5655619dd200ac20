package backup

import (
	"encoding/json"

	"github.com/walrecv/walrecv/internal/archive"
)

// formatNumber is the format of base backups that this version reads and writes.
const formatNumber = 1

// startFile is the content of start.json.
type startFile struct {
	Format int `json:"format"`
	Start
}

// backupFile is the content of backup.json.
type backupFile struct {
	Format int `json:"format"`
	Backup
}

func encodeStart(s Start) ([]byte, error) {
	data, err := json.Marshal(startFile{formatNumber, s})
	return append(data, '\n'), err
}

// encodeBackup gives a document of one line for each object: people look at it.
func encodeBackup(b *Backup) ([]byte, error) {
	data, err := json.MarshalIndent(backupFile{formatNumber, *b}, "", " ")
	return append(data, '\n'), err
}

// decodeStart reads start.json of the backup with an ID. Members that it does not
// know are ignored.
func decodeStart(id string, data []byte) (Start, error) {
	var file startFile
	if err := decode(data, &file); err != nil {
		return Start{}, err
	}
	return file.Start, file.Start.check(id)
}

// decodeBackup reads backup.json, as decodeStart does.
func decodeBackup(id string, data []byte) (*Backup, error) {
	var file backupFile
	if err := decode(data, &file); err != nil {
		return nil, err
	}
	if err := file.Backup.check(id); err != nil {
		return nil, err
	}
	return &file.Backup, nil
}

// decode reads a document. The format comes first: another one may have other types
// everywhere.
func decode(data []byte, into any) error {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	if head.Format != formatNumber {
		return &archive.FormatError{Format: head.Format}
	}
	return json.Unmarshal(data, into)
}
