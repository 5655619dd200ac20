package basebackup

import (
	"errors"
	"fmt"
	"strings"
)

// How the checkpoint is made with which a backup begins.
const (
	Fast   = "fast"   // at once, with all the I/O this takes
	Spread = "spread" // over minutes, as the server's own are
)

// Limits of Options.
const (
	MinRate  = 32      // kB/s
	MaxRate  = 1 << 20 // kB/s
	MaxLabel = 1024    // bytes, with the server's own end
)

// Options say how the server is to make a backup.
type Options struct {
	Label      string // stands in backup_label
	Checkpoint string // Fast or Spread; "": the server's default, which is Spread
	MaxRate    int    // kB (1024 bytes) a second that the server sends at most; 0: no limit
}

// CheckLabel says what is wrong about a label: the server would write it into
// backup_label, which is read line by line.
func CheckLabel(label string) error {
	if len(label) >= MaxLabel {
		return fmt.Errorf("a label has at most %d bytes", MaxLabel-1)
	}
	if strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("a label has no control characters")
	}
	return nil
}

// command is BASE_BACKUP with its options. The tar of the data directory gets a
// tablespace_map instead of symbolic links, so that it can be unpacked by anybody.
// The server is not to wait until it has archived WAL: who takes the backup knows
// which archive counts. Checksums of the manifest are CRC-32C, the server's default.
func (o Options) command() (string, error) {
	if err := CheckLabel(o.Label); err != nil {
		return "", err
	}
	words := []string{"LABEL " + quoteLiteral(o.Label), "PROGRESS"}
	switch o.Checkpoint {
	case "":
	case Fast, Spread:
		words = append(words, "CHECKPOINT "+quoteLiteral(o.Checkpoint))
	default:
		return "", fmt.Errorf("a checkpoint is %s or %s, not %q", Fast, Spread, o.Checkpoint)
	}
	if o.MaxRate != 0 {
		if o.MaxRate < MinRate || o.MaxRate > MaxRate {
			return "", fmt.Errorf("a rate is between %d and %d kB/s, not %d", MinRate, MaxRate, o.MaxRate)
		}
		words = append(words, fmt.Sprintf("MAX_RATE %d", o.MaxRate))
	}
	words = append(words, "WAIT 0", "TABLESPACE_MAP", "MANIFEST 'yes'")
	return "BASE_BACKUP (" + strings.Join(words, ", ") + ")", nil
}

// quoteLiteral quotes a string as the replication grammar reads it: only a quote
// stands for something else.
func quoteLiteral(text string) string {
	return `'` + strings.ReplaceAll(text, `'`, `''`) + `'`
}
