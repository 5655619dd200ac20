package archive

import (
	"fmt"
	"strconv"
	"strings"
)

// What a base backup is made of, besides the pieces of its tars: see [TarFile].
const (
	BackupStart    = "start.json"      // its first object
	BackupEnd      = "backup.json"     // its last object: without it the backup is not good
	BackupManifest = "backup_manifest" // what the server says the files are
)

// BaseTar is the tar of the data directory; the others are called by the OIDs of
// their tablespaces.
const BaseTar = "base"

const (
	suffixTar    = ".tar"
	pieceDigits  = 6
	maxIDLength  = 64
	idCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+="
)

// TarFile names a piece of a tar, as it stands in [Object].File. tar is [BaseTar] or
// the OID of a tablespace, and the pieces count from 1.
func TarFile(tar string, piece int) string {
	return fmt.Sprintf("%s.%0*d%s", tar, pieceDigits, piece, suffixTar)
}

// ParseTarFile reads what [TarFile] gives.
func ParseTarFile(file string) (tar string, piece int, ok bool) {
	tar, rest, _ := strings.Cut(file, ".")
	digits, ok := strings.CutSuffix(rest, suffixTar)
	piece, err := strconv.Atoi(digits)
	if !ok || err != nil || piece < 1 || !isTar(tar) || TarFile(tar, piece) != file {
		return "", 0, false
	}
	return tar, piece, true
}

// isTar tells whether there can be a tar of this name in a backup.
func isTar(name string) bool {
	if name == BaseTar {
		return true
	}
	oid, err := strconv.ParseUint(name, 10, 32)
	return err == nil && oid > 0 && strconv.FormatUint(oid, 10) == name
}

// IsID tells whether a base backup or a drill can have this ID: up to 64 letters,
// digits and "._-+=", of which the first is a letter or a digit.
func IsID(id string) bool {
	return id != "" && len(id) <= maxIDLength && strings.Trim(id, idCharacters) == "" && strings.IndexByte("._-+=", id[0]) < 0
}

// isPlainBackupFile tells whether an object is neither compressed nor encrypted.
func isPlainBackupFile(file string) bool { return file == BackupStart || file == BackupEnd }

// parseBaseBackup reads what stands below "backup/".
func parseBaseBackup(rest string) (Object, bool) {
	id, base, _ := strings.Cut(rest, "/")
	file, encrypted, ok := parseBackupBase(base)
	return Object{Kind: KindBaseBackup, ID: id, File: file, Encrypted: encrypted}, ok && IsID(id)
}

// parseBackupBase reads the last part of the key of an object of a base backup.
func parseBackupBase(base string) (file string, encrypted, ok bool) {
	if isPlainBackupFile(base) {
		return base, false, true
	}
	base, encrypted = strings.CutSuffix(base, suffixEncrypted)
	file, ok = strings.CutSuffix(base, suffixZstd)
	_, _, isTar := ParseTarFile(file)
	return file, encrypted, ok && (isTar || file == BackupManifest)
}

// parseDrill reads what stands below "drills/".
func parseDrill(base string) (Object, bool) {
	id, ok := strings.CutSuffix(base, suffixJSON)
	return Object{Kind: KindDrill, ID: id}, ok && IsID(id)
}
