package archive

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walrecv/walrecv/segment"
)

// Kind says what an object of the archive is.
type Kind int

// The kinds of objects that this version knows.
const (
	KindIdentity   Kind = iota + 1 // what cluster the archive is of
	KindSegment                    // a complete segment
	KindPartial                    // the unfinished last segment of a timeline
	KindBackup                     // a backup history file
	KindHistory                    // a timeline history file
	KindIndex                      // summaries of many segments
	KindGap                        // WAL that is missing
	KindMark                       // WAL that is damaged
	KindTail                       // a piece of a segment that is not complete in the archive
	KindBaseBackup                 // an object of a base backup
	KindDrill                      // what a restore drill found
	KindPruned                     // up to where the WAL was removed on purpose
)

const (
	identityBase    = "walrecv.json"
	walDir          = "wal"
	indexDir        = "index"
	gapDir          = "gaps"
	markDir         = "marks"
	tailDir         = "tail"
	baseBackupDir   = "backup"
	drillDir        = "drills"
	prunedDir       = "pruned"
	suffixZstd      = ".zst"
	suffixEncrypted = ".age"
	suffixPartial   = ".partial"
	suffixJSON      = ".json"

	// shortDigest is how many digits of a digest stand in a key.
	shortDigest = 8
)

// findingDirs is where what is known about the WAL stands, in files with names of
// their own.
var findingDirs = map[Kind]string{KindGap: gapDir, KindMark: markDir, KindPruned: prunedDir}

// Object is what a key says. Fields that a kind does not have are zero.
type Object struct {
	System    uint64 // system identifier of the cluster
	Kind      Kind
	Timeline  segment.TimelineID // of all but KindIdentity, KindBaseBackup, KindDrill
	Segment   string             // file name of the segment: KindSegment, KindPartial, KindBackup, KindMark, KindTail; the first one: KindIndex
	Last      string             // KindIndex: file name of the last segment
	File      string             // KindGap, KindMark, KindPruned: its name, for the former two as in the spool; KindBaseBackup: what it is of the backup, as [BackupStart] or "base.000001.tar"
	ID        string             // KindBaseBackup, KindDrill: which one
	Digest    string             // of kinds with a digest in the key (KindPartial, KindIndex): its first 8 hexadecimal digits
	Offset    string             // KindBackup: 8 hexadecimal digits
	From, To  int64              // KindTail: offsets in the segment, From < To
	Encrypted bool               // KindSegment, KindPartial, KindIndex, KindTail, KindBaseBackup
}

// keyed tells whether there can be several objects for the same, with the digest
// of each in its key.
func (k Kind) keyed() bool { return k == KindPartial || k == KindIndex }

// Key is the key of the object, below the root of the store.
func (o Object) Key() string {
	system := systemDir(o.System)
	switch o.Kind {
	case KindIdentity:
		return system + identityBase
	case KindHistory:
		return system + walDir + "/" + segment.HistoryName(o.Timeline)
	case KindGap, KindMark, KindPruned:
		return system + findingDirs[o.Kind] + "/" + o.File
	case KindDrill:
		return system + drillDir + "/" + o.ID + suffixJSON
	}
	key := system + walDir + "/" + o.Timeline.String() + "/" + o.Segment
	switch o.Kind {
	case KindIndex:
		key = system + indexDir + "/" + o.Timeline.String() + "/" + o.Segment + "-" + o.Last + "." + o.Digest + suffixJSON
	case KindBackup:
		return key + "." + o.Offset + ".backup"
	case KindPartial:
		key += "." + o.Digest + suffixPartial
	case KindTail:
		key = fmt.Sprintf("%s%s/%s/%08X-%08X", system, tailDir, o.Segment, o.From, o.To)
	case KindBaseBackup:
		key = system + baseBackupDir + "/" + o.ID + "/" + o.File
		if isPlainBackupFile(o.File) {
			return key
		}
	}
	key += suffixZstd
	if o.Encrypted {
		key += suffixEncrypted
	}
	return key
}

// systemDir is where everything of a cluster stands, with a slash at the end.
func systemDir(system uint64) string { return strconv.FormatUint(system, 10) + "/" }

// ParseKey reads the key of an object. A reader ignores the keys that it fails
// on: later versions have more kinds of objects.
func ParseKey(key string) (Object, error) {
	o, ok := parseKey(key)
	if !ok {
		return Object{}, fmt.Errorf("%q is not the key of an archived object", key)
	}
	return o, nil
}

func parseKey(key string) (Object, bool) {
	dir, rest, _ := strings.Cut(key, "/")
	system, ok := parseSystem(dir)
	if !ok {
		return Object{}, false
	}
	if rest == identityBase {
		return Object{System: system, Kind: KindIdentity}, true
	}
	o, ok := parseBelow(rest)
	o.System = system
	return o, ok
}

// parseBelow reads what stands below the directory of a cluster.
func parseBelow(rest string) (Object, bool) {
	dir, rest, _ := strings.Cut(rest, "/")
	switch dir {
	case walDir:
		return parseWAL(rest)
	case indexDir:
		return parseIndex(rest)
	case gapDir:
		return parseGap(rest)
	case markDir:
		return parseMark(rest)
	case tailDir:
		return parseTail(rest)
	case baseBackupDir:
		return parseBaseBackup(rest)
	case drillDir:
		return parseDrill(rest)
	case prunedDir:
		p, ok := prunedOfName(rest)
		return Object{Kind: KindPruned, Timeline: p.Timeline, File: rest}, ok
	}
	return Object{}, false
}

// parseSystem reads a system identifier: decimal, not 0, without leading zeros.
func parseSystem(dir string) (uint64, bool) {
	system, err := strconv.ParseUint(dir, 10, 64)
	if err != nil || system == 0 || strconv.FormatUint(system, 10) != dir {
		return 0, false
	}
	return system, true
}

// parseWAL reads what stands below "wal/".
func parseWAL(rest string) (Object, bool) {
	dir, base, below := strings.Cut(rest, "/")
	if !below {
		t, err := segment.ParseHistoryName(rest)
		return Object{Kind: KindHistory, Timeline: t}, err == nil
	}
	name, tail, _ := strings.Cut(base, ".")
	t, ok := timelineOf(name)
	if !ok || dir != t.String() {
		return Object{}, false
	}
	o := Object{Timeline: t, Segment: name}
	if segment.IsBackupHistoryName(base) {
		o.Kind, o.Offset = KindBackup, tail[:shortDigest]
		return o, true
	}
	tail, o.Encrypted = strings.CutSuffix("."+tail, suffixEncrypted)
	tail, ok = strings.CutSuffix(tail, suffixZstd)
	if !ok {
		return Object{}, false
	}
	if tail == "" {
		o.Kind = KindSegment
		return o, true
	}
	digest, ok := strings.CutSuffix(tail[1:], suffixPartial)
	if !ok || !isShortDigest(digest) {
		return Object{}, false
	}
	o.Kind, o.Digest = KindPartial, digest
	return o, true
}

// isShortDigest tells whether s is 8 lower-case hexadecimal digits.
func isShortDigest(s string) bool {
	return len(s) == shortDigest && strings.Trim(s, "0123456789abcdef") == ""
}
