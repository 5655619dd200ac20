package backup

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode/utf8"

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

// tablespaceJSON is a tablespace in a document. A path is bytes, in whatever encoding,
// and JSON has UTF-8 only.
type tablespaceJSON struct {
	OID             uint32 `json:"oid"`
	Location        string `json:"location"`
	EncodedLocation string `json:"encoded_location,omitempty"` // hexadecimal, if Location is not UTF-8
	Size            int64  `json:"size"`
}

// MarshalJSON implements json.Marshaler.
func (t Tablespace) MarshalJSON() ([]byte, error) {
	j := tablespaceJSON{OID: t.OID, Location: t.Location, Size: t.Size}
	if !utf8.ValidString(t.Location) {
		j.EncodedLocation = hex.EncodeToString([]byte(t.Location))
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Tablespace) UnmarshalJSON(data []byte) error {
	var j tablespaceJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*t = Tablespace{OID: j.OID, Location: j.Location, Size: j.Size}
	if j.EncodedLocation == "" {
		return nil
	}
	location, err := hex.DecodeString(j.EncodedLocation)
	if err != nil {
		return fmt.Errorf("the location of tablespace %d: %w", j.OID, err)
	}
	t.Location = string(location)
	return nil
}
