package archive

import (
	"strings"
	"testing"
)

const (
	seg      = "00000002000000160000000A"
	seg2     = "00000002000000160000000C"
	gapFile  = "00000002.0000001601000000-0000001605000000.gap"
	markFile = seg + ".0000001601000028.mark"
)

var keyTests = []struct {
	key    string
	object Object
}{
	{"7411122233344455566/walrecv.json", Object{System: 7411122233344455566, Kind: KindIdentity}},
	{"18446744073709551615/walrecv.json", Object{System: 1<<64 - 1, Kind: KindIdentity}},
	{"7/wal/00000002/" + seg + ".zst", Object{System: 7, Kind: KindSegment, Timeline: 2, Segment: seg}},
	{"7/wal/00000002/" + seg + ".zst.age", Object{System: 7, Kind: KindSegment, Timeline: 2, Segment: seg, Encrypted: true}},
	{"7/wal/00000002/" + seg + ".00c0ffee.partial.zst", Object{System: 7, Kind: KindPartial, Timeline: 2, Segment: seg, Digest: "00c0ffee"}},
	{"7/wal/00000002/" + seg + ".00c0ffee.partial.zst.age", Object{System: 7, Kind: KindPartial, Timeline: 2, Segment: seg, Digest: "00c0ffee", Encrypted: true}},
	{"7/wal/00000002/" + seg + ".0000BEEF.backup", Object{System: 7, Kind: KindBackup, Timeline: 2, Segment: seg, Offset: "0000BEEF"}},
	{"7/index/00000002/" + seg + "-" + seg2 + ".00c0ffee.json.zst", Object{System: 7, Kind: KindIndex, Timeline: 2, Segment: seg, Last: seg2, Digest: "00c0ffee"}},
	{"7/gaps/" + gapFile, Object{System: 7, Kind: KindGap, Timeline: 2, File: gapFile}},
	{"7/marks/" + markFile, Object{System: 7, Kind: KindMark, Timeline: 2, Segment: seg, File: markFile}},
	{"7/tail/" + seg + "/00000000-00002000.zst", Object{System: 7, Kind: KindTail, Timeline: 2, Segment: seg, To: 0x2000}},
	{"7/tail/" + seg + "/0FFFFFFF-40000000.zst.age", Object{System: 7, Kind: KindTail, Timeline: 2, Segment: seg, From: 1<<28 - 1, To: 1 << 30, Encrypted: true}},
	{"7/backup/20261122T073000Z/start.json", Object{System: 7, Kind: KindBaseBackup, ID: "20261122T073000Z", File: BackupStart}},
	{"7/backup/x/backup.json", Object{System: 7, Kind: KindBaseBackup, ID: "x", File: BackupEnd}},
	{"7/backup/A.b_c-d+e=f/base.000001.tar.zst", Object{System: 7, Kind: KindBaseBackup, ID: "A.b_c-d+e=f", File: TarFile(BaseTar, 1)}},
	{"7/backup/1/4294967295.1234567.tar.zst.age", Object{System: 7, Kind: KindBaseBackup, ID: "1", File: TarFile("4294967295", 1234567), Encrypted: true}},
	{"7/backup/1/backup_manifest.zst", Object{System: 7, Kind: KindBaseBackup, ID: "1", File: BackupManifest}},
	{"7/backup/1/backup_manifest.zst.age", Object{System: 7, Kind: KindBaseBackup, ID: "1", File: BackupManifest, Encrypted: true}},
	{"7/drills/20261122T073000Z.json", Object{System: 7, Kind: KindDrill, ID: "20261122T073000Z"}},
	{"7/drills/1.json.json", Object{System: 7, Kind: KindDrill, ID: "1.json"}},
	{"7/pruned/00000002.0000001601000000.pruned", Object{System: 7, Kind: KindPruned, Timeline: 2, File: "00000002.0000001601000000.pruned"}},
	{"7/wal/FFFFFFFE.history", Object{System: 7, Kind: KindHistory, Timeline: 0xFFFFFFFE}},
}

func TestKeys(t *testing.T) {
	for _, c := range keyTests {
		if got := c.object.Key(); got != c.key {
			t.Errorf("%+v: key %q, want %q", c.object, got, c.key)
		}
		if got, err := ParseKey(c.key); err != nil || got != c.object {
			t.Errorf("%q: %+v, %v, want %+v", c.key, got, err, c.object)
		}
	}
}

func TestUnknownKeys(t *testing.T) {
	for _, key := range []string{
		"", "/", "7", "7/", "7/x", "walrecv.json", "x/walrecv.json", "0/walrecv.json", "07/walrecv.json", "+7/walrecv.json",
		"18446744073709551616/walrecv.json", "-1/walrecv.json", "7/walrecv.json/", "7/walrecv.json.zst",
		"7/wal", "7/wal/", "7/wal/00000000.history", "7/wal/0000000a.history", "7/wal/00000002.history.zst", "7/wal/00000002.history.age",
		"7/wal/00000001/" + seg + ".zst", "7/wal//" + seg + ".zst", "7/wal/0/" + seg + ".zst", "7/wal/" + seg + ".zst",
		"7/wal/00000002/" + seg, "7/wal/00000002/" + seg + ".", "7/wal/00000002/" + seg + ".gz", "7/wal/00000002/" + seg + "zst",
		"7/wal/00000002/" + seg + ".zst.zst", "7/wal/00000002/" + seg + ".age", "7/wal/00000002/" + seg + ".zst.age.age",
		"7/wal/00000002/" + seg + ".partial", "7/wal/00000002/" + seg + ".partial.zst", "7/wal/00000002/" + seg + "..partial.zst",
		"7/wal/00000002/" + seg + ".00C0FFEE.partial.zst", "7/wal/00000002/" + seg + ".00c0ffe.partial.zst",
		"7/wal/00000002/" + seg + ".00c0ffee0.partial.zst", "7/wal/00000002/" + seg + ".00c0ffee.partial",
		"7/wal/00000002/" + seg + ".0000beef.backup", "7/wal/00000002/" + seg + ".0000BEEF.backup.zst",
		"7/wal/00000000/00000000" + seg[8:] + ".zst", "7/wal/00000002/" + strings.ToLower(seg) + ".zst",
		"7/wal/00000002/x/" + seg + ".zst", "7/index/1", "7/index/", "7/gaps/", "7/marks/x",
		"7/index/00000001/" + seg + "-" + seg2 + ".00c0ffee.json.zst", "7/index/00000002/" + seg2 + "-" + seg + ".00c0ffee.json.zst",
		"7/index/00000002/" + seg + "-0" + seg2[1:7] + "1" + seg2[8:] + ".00c0ffee.json.zst", "7/index/00000002/" + seg + "-" + seg2 + ".json.zst",
		"7/index/00000002/" + seg + "-" + seg2 + ".00c0ffee.zst", "7/index/00000002/" + seg + "-" + seg2 + "00c0ffee.json.zst",
		"7/index/00000002/" + seg + ".00c0ffee.json.zst", "7/index/" + seg + "-" + seg2 + ".00c0ffee.json.zst",
		"7/tail/" + seg, "7/tail/" + seg + "/", "7/tail/" + seg + "/00000000-00002000", "7/tail/" + seg + "/00000000-00000000.zst",
		"7/tail/" + seg + "/00002000-00001000.zst", "7/tail/" + seg + "/00000000-40000001.zst", "7/tail/" + seg + "/00000000-0000200a.zst",
		"7/tail/" + seg + "/0-2000.zst", "7/tail/" + seg + "/00000000-000002000.zst", "7/tail/" + seg + "/00000000-+0002000.zst",
		"7/tail/" + seg + "/00000000_00002000.zst", "7/tail/" + seg + "/00000000.zst", "7/tail/00000000" + seg[8:] + "/00000000-00002000.zst",
		"7/tail/" + seg + "/x/00000000-00002000.zst", "7/tail/" + seg + "/00000000-00002000.zst.zst", "7/tail/00000002/" + seg + "/00000000-00002000.zst",
		"7/gaps/00000000" + gapFile[8:], "7/gaps/" + strings.ToLower(gapFile[:len(gapFile)-4]) + "x.gap", "7/gaps/" + gapFile + ".zst", "7/gaps/" + markFile,
		"7/marks/00000000" + markFile[8:], "7/marks/" + gapFile, "7/marks/x/" + markFile, "7/marks/" + markFile[1:],
		"7/backup/", "7/backup/1", "7/backup/1/", "7/backup/start.json", "7/backup//start.json", "7/backup/.1/start.json", "7/backup/-1/start.json", "7/backup/1/2/start.json",
		"7/backup/" + strings.Repeat("1", 65) + "/start.json", "7/backup/ä/start.json", "7/backup/1/start.json.zst", "7/backup/1/backup.json.age", "7/backup/1/Start.json",
		"7/backup/1/base.000001.tar", "7/backup/1/base.000001.tar.age", "7/backup/1/base.000000.tar.zst", "7/backup/1/base.00001.tar.zst", "7/backup/1/base.0000001.tar.zst",
		"7/backup/1/base.+00001.tar.zst", "7/backup/1/base.99999999999999999999.tar.zst", "7/backup/1/base.tar.zst", "7/backup/1/base.000001.zst", "7/backup/1/.000001.tar.zst",
		"7/backup/1/0.000001.tar.zst", "7/backup/1/01.000001.tar.zst", "7/backup/1/4294967296.000001.tar.zst", "7/backup/1/x.000001.tar.zst", "7/backup/1/backup_manifest",
		"7/backup/1/backup_manifest.tar.zst", "7/drills/", "7/drills/.json", "7/drills/..json", "7/drills/1", "7/drills/1/2.json", "7/drills/1.json.zst", "7/drills/x y.json",
		"7/pruned/00000002.0000000000000000.pruned", "7/pruned/00000000.0000001601000000.pruned", "7/pruned/0000000a.0000001601000000.pruned",
		"7/pruned/00000002.000001601000000.pruned", "7/pruned/00000002.0000001601000000", "7/pruned/x/00000002.0000001601000000.pruned",
	} {
		if o, err := ParseKey(key); err == nil {
			t.Errorf("%q was read as %+v", key, o)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, c := range keyTests {
		f.Add(c.key)
	}
	f.Add("7/later/1/start.json")
	f.Fuzz(func(t *testing.T, key string) {
		o, err := ParseKey(key)
		if err == nil && o.Key() != key {
			t.Errorf("%q was read as %+v, whose key is %q", key, o, o.Key())
		}
	})
}
