package restore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/segment"
)

// flatWorld has a directory as pg_receivewal leaves it, as the archive.
func flatWorld(w *world) *world {
	w.o.Archive = w.flat("/spool")
	return w
}

func TestPgReceivewalDirectory(t *testing.T) {
	n := seg(1, 5)
	for _, m := range methods {
		t.Run(string(m), func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				flatWorld(w)
				w.write("/spool/"+name(n)+m.Suffix(), packed(t, m, wal(n, full)))
				w.write("/spool/00000002.history"+m.Suffix(), packed(t, m, []byte(history(1, at(9, 100)))))
				w.write("/spool/00000002.history.tmp", []byte("1"))
				w.write("/spool/notes.txt", []byte("by the operator"))
				w.must(w.fs.Mkdir("/spool/sub", 0o700))
				w.write("/spool/sub/"+name(seg(1, 9)), nil)
				w.wantBytes(n, wal(n, full))
				w.want("00000002.history", CodeDelivered)
				if got := string(w.read("/data/pg_wal/RECOVERYHISTORY")); got != history(1, at(9, 100)) {
					t.Errorf("history %q was delivered", got)
				}
				w.want("00000003.history", CodeAbsent)
				w.want(name(n.Next()), w.pick(CodeDamaged, CodeAbsent)) // timeline 1 went to 9
			})
		})
	}
}

func TestPgReceivewalPartials(t *testing.T) {
	n := seg(1, 5)
	sound := wal(n, 300_000)
	tests := []struct {
		suffix string
		data   func(t *testing.T) []byte
	}{
		{".partial", func(*testing.T) []byte { return sound }},
		{".gz.partial", func(t *testing.T) []byte { return packed(t, codec.Gzip, sound) }},
		{".lz4.partial", func(t *testing.T) []byte { return packed(t, codec.LZ4, sound) }},
		{".partial.gz", func(t *testing.T) []byte { return packed(t, codec.Gzip, sound) }},
		{".partial.zst", func(t *testing.T) []byte { return packed(t, codec.Zstd, sound) }},
	}
	for _, tt := range tests {
		t.Run(tt.suffix, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				flatWorld(w)
				w.write("/spool/"+name(n)+tt.suffix, tt.data(t))
				w.wantBytes(n, sound)
				w.want(name(n.Next()), CodeAbsent)
				w.o.Tail = TailNever
				w.want(name(n), CodeAbsent)
			})
		})
	}
}

// pg_receivewal compresses as WAL comes, so its partial ends anywhere.
func TestCompressedPartialThatIsCutShort(t *testing.T) {
	n := seg(1, 5)
	for _, m := range []codec.Method{codec.Gzip, codec.LZ4} {
		bubble(t, string(m), func(t *testing.T) {
			w := flatWorld(newWorld(t, recoverySignal))
			whole := packed(t, m, wal(n, full)[:600_000])
			w.write("/spool/"+name(n)+m.Suffix()+".partial", whole[:len(whole)*2/3])
			w.write("/spool/"+name(seg(1, 4)), wal(seg(1, 4), full))
			w.want(name(n), CodeDelivered)
			got := w.read("/data/pg_wal/RECOVERYXLOG")
			end := firstDifference(got, wal(n, full))
			if end < 100_000 || !zero(got[end:end+1]) || end > 600_000 {
				t.Errorf("%d bytes of the partial were delivered", end)
			}
			for _, b := range got[end:] {
				if b != 0 {
					t.Fatal("something else than zeros is behind the WAL")
				}
			}
			// The same cut in what claims to be sealed is damage.
			w.write("/spool/"+name(n)+m.Suffix(), whole[:len(whole)*2/3])
			w.want(name(n), CodeDamaged)
		})
	}
}

func TestPlacesAreIdentified(t *testing.T) {
	n := seg(1, 5)
	empty := make([]byte, full)
	tests := []struct {
		name     string
		setup    func(w *world)
		recovery int
		standby  int
		message  string
	}{
		{"empty directory", func(*world) {}, CodeMisconfigured, CodeAbsent, "is it mounted"},
		{"only a partial without WAL", func(w *world) {
			w.write("/spool/"+name(n)+".partial", empty)
		}, CodeMisconfigured, CodeAbsent, "is it mounted"},
		{"another cluster", func(w *world) {
			w.write("/spool/"+name(n), walOf(otherSystem, n, 1, full))
		}, CodeMisconfigured, CodeMisconfigured, "7710755342863415828"},
		{"another cluster's partial", func(w *world) {
			w.write("/spool/"+name(n)+".partial", walOf(otherSystem, n, 1, full))
		}, CodeMisconfigured, CodeMisconfigured, "7710755342863415828"},
		{"another cluster's spool", func(w *world) {
			w.write("/spool/walrecv.json", fmt.Appendf(nil, `{"format":1,"system_identifier":"%d","wal_segment_size":%d}`, uint64(otherSystem), full))
		}, CodeMisconfigured, CodeMisconfigured, "7710755342863415828"},
		{"a spool of a later version", func(w *world) {
			w.write("/spool/walrecv.json", []byte(`{"format":2}`))
		}, CodeMisconfigured, CodeMisconfigured, "format 2"},
		{"a damaged identity", func(w *world) {
			w.write("/spool/walrecv.json", []byte(`{"format":1,"system_identifier":"0"}`))
		}, CodeDamaged, CodeAbsent, "walrecv.json"},
		{"nothing but damaged segments", func(w *world) {
			w.write("/spool/"+name(n), []byte(strings.Repeat("x", 1<<20)))
		}, CodeDamaged, CodeAbsent, "does not begin with a WAL page"},
		{"newest one is damaged", func(w *world) {
			w.write("/spool/"+name(seg(1, 3)), wal(seg(1, 3), full))
			w.write("/spool/"+name(seg(1, 4)), []byte(strings.Repeat("x", 1<<20)))
		}, CodeAbsent, CodeAbsent, ""},
		{"identified by its spool file, otherwise empty", func(w *world) {
			w.withSpool()
			w.o.Spool = Place{}
		}, CodeAbsent, CodeAbsent, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				flatWorld(w)
				tt.setup(w)
				a := w.want(name(n), w.pick(tt.recovery, tt.standby))
				if a.Message != "" && !strings.Contains(a.Message, tt.message) {
					t.Errorf("message %q does not have %q", a.Message, tt.message)
				}
			})
		})
	}
}

func TestPlacesMustAgree(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.withSpool()
		w.write("/spool/walrecv.json", fmt.Appendf(nil,
			`{"format":1,"system_identifier":"%d","wal_segment_size":%d}`, uint64(testSystem), 2*full))
		w.want("000000010000000000000005", CodeMisconfigured)
		// Without a pg_control the first place says which cluster it is.
		w.remove("/data/" + controlFile)
		w.write("/spool/walrecv.json", fmt.Appendf(nil,
			`{"format":1,"system_identifier":"%d","wal_segment_size":%d}`, uint64(otherSystem), full))
		w.want("000000010000000000000005", CodeMisconfigured)
	})
}

// A spool that is configured and not there may hold WAL that nobody else has.
func TestSpoolThatIsMissing(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.o.Spool = w.flat("/unmounted")
		w.put(n, wal(n, full))
		w.wantBytes(n, wal(n, full)) // what the archive has needs no proof
		w.want(name(n.Next()), w.pick(CodeMisconfigured, CodeAbsent))
	})
}

func TestSpoolWithoutArchive(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.withSpool().o.Archive = Place{}
		w.write("/spool/"+name(n), wal(n, full))
		w.wantBytes(n, wal(n, full))
		w.want(name(n.Next()), CodeAbsent)
	})
}

// The spool is asked first: while it has the segment, the archive may be down.
func TestSpoolHelpsInAnOutage(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.withSpool().archiveHook = hanging
		w.write("/spool/"+name(n), wal(n, full))
		w.write("/spool/"+name(n.Next())+".partial", wal(n.Next(), 300_000))
		w.wantBytes(n, wal(n, full))
		w.want(name(n.Next()), w.pick(CodeUnknown, CodeAbsent)) // perhaps sealed in the archive
	})
}

func TestDamageInAFlatDirectory(t *testing.T) {
	n := seg(1, 5)
	tests := []struct {
		name  string
		spoil func(data []byte) []byte
	}{
		{"short", func(d []byte) []byte { return d[:len(d)-1] }},
		{"empty", func(d []byte) []byte { return nil }},
		{"long", func(d []byte) []byte { return append(d, 0) }},
		{"first page of another segment", func([]byte) []byte { return wal(n.Next(), full) }},
		{"another cluster's segment among ours", func([]byte) []byte { return walOf(otherSystem, n, 1, full) }},
		{"later timeline in a page", func(d []byte) []byte { d[5*testPage+4] = 9; return d }},
		{"page header", func(d []byte) []byte { d[7*testPage+9] ^= 1; return d }},
		{"page lost", func(d []byte) []byte { clear(d[7*testPage : 8*testPage]); return d }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				flatWorld(w)
				w.write("/spool/"+name(seg(1, 9)), wal(seg(1, 9), full))
				w.write("/spool/"+name(n), tt.spoil(wal(n, full)))
				w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
			})
		})
	}
}

// A damaged copy does not matter where another place has a sound one.
func TestOtherPlaceHelpsWithDamage(t *testing.T) {
	n := seg(1, 5)
	bothModes(t, func(t *testing.T, w *world) {
		w.withSpool()
		w.write("/spool/"+name(n), []byte("half of a segment"))
		w.put(n, wal(n, full))
		w.wantBytes(n, wal(n, full))
	})
}

func TestHistoriesThatDiffer(t *testing.T) {
	bothModes(t, func(t *testing.T, w *world) {
		w.withSpool()
		w.write("/spool/00000002.history", []byte(history(1, at(5, 100))))
		w.putHistory(2, history(1, at(6, 100)))
		a := w.want("00000002.history", w.pick(CodeDamaged, CodeAbsent))
		if !w.standby() && !strings.Contains(a.Message, "two branches") {
			t.Errorf("message %q", a.Message)
		}
	})
}

// Things in the spool count as later things, too.
func TestHolesAcrossPlaces(t *testing.T) {
	n := seg(1, 5)
	for file, data := range map[string][]byte{
		name(n.Next()) + ".partial": make([]byte, full),
		name(n.Next()) + ".zst":     nil,
		"00000002.history":          []byte(history(1, at(5, 77))),
	} {
		t.Run(file, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				w.withSpool()
				w.write("/spool/"+file, data)
				w.want(name(n), w.pick(CodeDamaged, CodeAbsent))
			})
		})
	}
}

func FuzzParseFlat(f *testing.F) {
	for _, name := range []string{
		"000000010000000000000005", "000000010000000000000005.gz.partial", "000000010000000000000005.partial.zst",
		"00000002.history.lz4", "00000002.history.partial", "walrecv.json", ".partial.gz.partial", "000000010000000000000005.gz.gz",
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, key string) {
		p, ok := parseFlat(key)
		if !ok {
			return
		}
		_, err := segment.ParseHistoryName(p.base)
		if history := err == nil; history == segment.IsSegmentName(p.base) || history && p.partial {
			t.Errorf("%q is taken for %+v", key, p)
		}
		suffixes := []string{p.method.Suffix()}
		if p.partial {
			suffixes = []string{p.method.Suffix() + ".partial", ".partial" + p.method.Suffix()}
		}
		for _, s := range suffixes {
			if key == p.base+s {
				return
			}
		}
		t.Errorf("%q is taken for %+v", key, p)
	})
}
