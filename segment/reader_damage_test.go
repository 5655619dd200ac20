package segment_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// damagedLog is a log of which the tests know every record and page.
type damagedLog struct {
	*walMaker
	first, second, split, long, after segment.LSN // records
}

// forDamage writes a few pages of 1 kB.
func forDamage() *damagedLog {
	d := &damagedLog{walMaker: newWAL(1<<20, 1<<10, testStart)}
	d.first = d.record(rmHeap, 0, 1, filler(100))
	d.second = d.commit(1, 77)
	d.fill(16)
	d.split = d.record(rmHeap, 0, 1, filler(60)) // its header goes on in page 1
	d.long = d.record(rmHeap, 0, 1, filler(3000))
	d.after = d.record(rmHeap, 0, 1, filler(77))
	return d
}

// bytesAt are the bytes of the log from a position on.
func (w *walMaker) bytesAt(at segment.LSN) []byte { return w.data[at-w.start:] }

// seal changes a record that lies on one page, and its checksum so that it fits.
func (w *walMaker) seal(at segment.LSN, change func(b []byte)) {
	b := w.bytesAt(at)
	length := binary.LittleEndian.Uint32(b)
	change(b)
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(crc32.Update(0, table, b[24:length]), table, b[:20])
	binary.LittleEndian.PutUint32(b[20:], crc)
}

func set32(at int, value uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], value) }
}

func set64(at int, value segment.LSN) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint64(b[at:], uint64(value)) }
}

func set8(at int, value byte) func([]byte) { return func(b []byte) { b[at] = value } }

// TestReaderFindsDamage says for each kind of damage what is told of it.
func TestReaderFindsDamage(t *testing.T) {
	const page = 1 << 10
	at := func(offset int) segment.LSN { return testStart + segment.LSN(offset) }
	for name, c := range map[string]struct {
		damage func(d *damagedLog)
		fault  string
	}{
		"length 0":            {func(d *damagedLog) { set32(0, 0)(d.bytesAt(d.second)) }, "5/90: there is no record here, its length is 0"},
		"length below header": {func(d *damagedLog) { set32(0, 23)(d.bytesAt(d.second)) }, "5/90: a record of 23 bytes is shorter than its header"},
		"length above limit":  {func(d *damagedLog) { set32(0, 1<<30)(d.bytesAt(d.second)) }, "5/90: a record of 1073741824 bytes is too long"},
		"length 0, split":     {func(d *damagedLog) { set32(0, 0)(d.bytesAt(d.split)) }, "5/3F0: there is no record here"},
		"length above, split": {func(d *damagedLog) { set32(0, 1<<32-1)(d.bytesAt(d.split)) }, "5/3F0: a record of 4294967295 bytes is too long"},
		"length not as left":  {func(d *damagedLog) { set32(0, 61)(d.bytesAt(d.split)) }, "5/400: 44 bytes instead of 45 are left of the record at 5/3F0"},
		"manager":             {func(d *damagedLog) { d.seal(d.second, set8(17, 22)) }, "5/90: there is no resource manager 22"},
		"record padding":      {func(d *damagedLog) { d.seal(d.second, set8(18, 1)) }, "5/90: the padding of the record header is not zero"},
		"other prev":          {func(d *damagedLog) { d.seal(d.second, set64(8, d.first-8)) }, "5/90: the record before is at 5/28, but it points back to 5/20"},
		"first prev":          {func(d *damagedLog) { d.seal(d.first, set64(8, d.first)) }, "5/28: it points back to 5/28, which is not on a page before"},
		"checksum":            {func(d *damagedLog) { d.bytesAt(d.second)[30] ^= 4 }, "5/90: the checksum of the record does not match"},
		"checksum of long":    {func(d *damagedLog) { d.bytesAt(d.long)[2000] ^= 4 }, fmt.Sprintf("%s: the checksum", d0.long)},
		"padding behind":      {func(d *damagedLog) { d.bytesAt(d.first)[102] = 9 }, "5/8E: the padding after a record is not zero"},
		"switch too long":     {func(d *damagedLog) { d.seal(d.second, func(b []byte) { b[16], b[17] = infoSwitch, rmXLOG }) }, "5/90: a switch to the next segment of 38 bytes"},
		"no abandoned record": {func(d *damagedLog) { d.seal(d.second, func(b []byte) { b[16], b[17] = infoOverwrite, rmXLOG }) }, "5/90: it says that a record was abandoned, but none was"},

		"first page empty":    {func(d *damagedLog) { clear(d.data[:page]) }, "5/0: the page is empty"},
		"page empty":          {func(d *damagedLog) { clear(d.data[2*page : 3*page]) }, fmt.Sprintf("5/800: the page is empty, but %d bytes are left of the record at %s", 3000-(page-d0.long%page), d0.long)},
		"page address":        {func(d *damagedLog) { set64(8, at(7*page))(d.data[page:]) }, "5/400: the page address is 5/1C00 instead of 5/400"},
		"page magic":          {func(d *damagedLog) { set8(0, 0x13)(d.data[page:]) }, "5/400: the magic number is D113, but D110 on the pages before"},
		"first page magic":    {func(d *damagedLog) { set8(0, 0x13)(d.data) }, "5/0: the page is of PostgreSQL 16 instead of 15"},
		"page flags":          {func(d *damagedLog) { d.data[page+2] |= 16 }, "5/400: unknown flags"},
		"page timeline 0":     {func(d *damagedLog) { d.data[page+4] = 0 }, "5/400: timeline 0"},
		"page timeline above": {func(d *damagedLog) { d.data[page+4] = 2 }, "5/400: timeline 2 is after 1"},
		"page padding":        {func(d *damagedLog) { d.data[page+21] = 2 }, "5/400: the padding of the page header is not zero"},
		"long header inside":  {func(d *damagedLog) { d.data[page+2] |= flagLong }, "5/400: a long page header within the segment"},
		"short header first":  {func(d *damagedLog) { d.data[2] &^= flagLong }, "5/0: the first page has a short header"},
		"system identifier":   {func(d *damagedLog) { d.data[24]++ }, "5/0: it belongs to the cluster with system identifier"},
		"segment size":        {func(d *damagedLog) { d.data[34] = 0x20 }, "5/0: it is of a cluster with segments of 2MB instead of 1MB"},
		"block size":          {func(d *damagedLog) { d.data[37] = 1 }, "5/0: 256 bytes is not a page length"},
		"big-endian": {func(d *damagedLog) {
			slices.Reverse(d.data[page : page+2])
			slices.Reverse(d.data[page+8 : page+16])
		}, "5/400: it was written by a big-endian server"},
		"not continued":               {func(d *damagedLog) { d.data[2*page+2] &^= flagContinued; set32(16, 0)(d.data[2*page:]) }, "5/800: 0 bytes instead of"},
		"continued too far":           {func(d *damagedLog) { d.data[2*page+16]++ }, "5/800: 2"},
		"flag without rest":           {func(d *damagedLog) { set32(16, 0)(d.data[2*page:]) }, "5/800: nothing is left of the record that it continues"},
		"rest without flag":           {func(d *damagedLog) { d.data[2*page+2] &^= flagContinued }, "5/800: 2"},
		"abandoned too":               {func(d *damagedLog) { d.data[2*page+2] |= flagAbandoned }, "5/800: it both continues and abandons a record"},
		"abandoned, no word":          {func(d *damagedLog) { d.data[2*page+2] ^= flagAbandoned | flagContinued; set32(16, 0)(d.data[2*page:]) }, "5/818: "},
		"pages exchanged":             {func(d *damagedLog) { swap(d.data[page:2*page], d.data[2*page:3*page]) }, "5/400: the page address is 5/800 instead of 5/400"},
		"page written a byte too far": {func(d *damagedLog) { copy(d.data[page+1:2*page], d.data[page:2*page-1]) }, "5/400: the page address"},
	} {
		t.Run(name, func(t *testing.T) {
			d := forDamage()
			c.damage(d)
			got := d.faults(t)
			if len(got) == 0 || !strings.HasPrefix(got[0], "fault: WAL at "+c.fault) {
				t.Errorf("got %q; want %s", got, c.fault)
			}
			if len(got) > 1 {
				t.Errorf("told more than once: %q", got)
			}
		})
	}
}

var d0 = forDamage()

func swap(a, b []byte) {
	kept := slices.Clone(a)
	copy(a, b)
	copy(b, kept)
}

// faults are the faults that a Reader finds, whole and cut.
func (w *walMaker) faults(t *testing.T) []string {
	t.Helper()
	all := readAll(t, w.options(), w.start, w.data)
	w.checkWants(t, all)
	return slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, "fault") })
}

// TestReaderFindsDamageAtSwitches damages what follows a switch.
func TestReaderFindsDamageAtSwitches(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *walMaker)
		fault  string
	}{
		"byte on the same page": {func(w *walMaker) { w.data[200] = 1 }, "5/C8: bytes after the switch"},
		"last byte":             {func(w *walMaker) { w.data[1<<20-1] = 1 }, "5/FFFFF: bytes after the switch"},
		"byte in a header":      {func(w *walMaker) { w.data[8192+9] = 1 }, "5/2000: the page address is 0/100 instead"},
		"stale page":            {func(w *walMaker) { copy(w.data[8192:], w.data[:8192]) }, "5/2000: the page address is 5/0 instead"},
		"page that goes on":     {func(w *walMaker) { w.header(8192, flagContinued, 100) }, "5/2000: 100 bytes are left of a record, but none was begun"},
		"page that abandons":    {func(w *walMaker) { w.header(8192, flagAbandoned, 0) }, "5/2000: it abandons a record, but none was begun"},
		"page with a byte":      {func(w *walMaker) { w.header(8192, 0, 0); w.data[8192+24] = 1 }, "5/2018: bytes after the switch"},
		"next empty":            {func(w *walMaker) { clear(w.data[1<<20:]) }, "5/100000: the page is empty"},
		"next points elsewhere": {func(w *walMaker) { w.seal(testStart+1<<20+40, set64(8, testStart+40)) }, "5/100028: the record before is at 5/90, but it points back to 5/28"},
		"next of other pages":   {func(w *walMaker) { set32(36, 16384)(w.data[1<<20:]) }, "5/100000: its pages are of 16384 bytes, but of 8192 before"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWAL(1<<20, 8192, testStart)
			w.record(rmHeap, 0, 1, filler(100))
			w.switchSegment()
			w.record(rmHeap, 0, 1, filler(100))
			w.fill(0)
			c.damage(w)
			if got := w.faults(t); len(got) != 1 || !strings.HasPrefix(got[0], "fault: WAL at "+c.fault) {
				t.Errorf("got %q; want %s", got, c.fault)
			}
		})
	}
}

// header writes the header of a page inside of a segment.
func (w *walMaker) header(at int, flags uint16, remLen uint32) {
	h := w.PageHeader
	h.Info, h.Addr, h.RemLen = flags|flagRemovable, w.start+segment.LSN(at), remLen
	copy(w.data[at:], encodeHeader(h))
}

func TestReaderFindsDamageAtAbandonedRecords(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *walMaker, overwrite segment.LSN)
		fault  string
	}{
		"other record": {func(w *walMaker, at segment.LSN) { w.seal(at, set64(26, testStart+40)) }, "it says that the record at 5/28 was abandoned, but it is the one at 5/90"},
		"no payload":   {func(w *walMaker, at segment.LSN) { w.seal(at, set8(25, 7)) }, "it does not say which record was abandoned"},
		"not said":     {func(w *walMaker, at segment.LSN) { w.seal(at, set8(16, 0)) }, "a record was abandoned, but the one that follows does not say so"},
		"points at it": {func(w *walMaker, at segment.LSN) { w.seal(at, set64(8, testStart+0x90)) }, "the record before is at 5/28, but it points back to 5/90"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWAL(1<<20, 8192, testStart)
			w.record(rmHeap, 0, 1, filler(100))
			w.lose(filler(30000), w.roomFor(1))
			w.overwrite()
			c.damage(w, w.prev)
			if got := w.faults(t); len(got) != 1 || got[0] != fmt.Sprintf("fault: WAL at %s: %s", w.prev, c.fault) {
				t.Errorf("got %q; want %s", got, c.fault)
			}
		})
	}
	w := newWAL(1<<20, 8192, testStart) // the record is in the segment before, which is not read
	w.fillSegment(16)
	w.lose(filler(100), 16)
	w.overwrite()
	w.data = w.data[1<<20:]
	w.start += 1 << 20
	at := w.prev
	wantEvents(t, readAll(t, w.options(), w.start, w.data), w.want[len(w.want)-1:])
	w.seal(at, set64(26, at))
	if got := w.faults(t); len(got) != 1 || !strings.Contains(got[0], "which is not before it") {
		t.Errorf("a record that abandons itself: %q", got)
	}
}

// TestReaderGoesOnAfterDamage shows what is told around a fault, and that all
// that is sound behind it is read.
func TestReaderGoesOnAfterDamage(t *testing.T) {
	d := forDamage()
	for range 100 {
		d.record(rmHeap, 0, 1, filler(333))
	}
	d.data[d.second-d.start+30] ^= 1
	got := readAll(t, d.options(), d.start, d.data)
	next := d.want[slices.IndexFunc(d.want, func(s string) bool { return strings.HasPrefix(s, "record "+d.long.String()+"-") }):]
	want := slices.Concat(d.want[:1], []string{
		"fault: WAL at 5/90: the checksum of the record does not match",
		fmt.Sprintf("unchecked 5/90-%s", d.long),
	}, next)
	wantEvents(t, got, want)
}

// TestReaderBoundsPointersAfterDamage: behind a fault the record before is not
// known, but it is neither before the last sound one nor on the same page.
func TestReaderBoundsPointersAfterDamage(t *testing.T) {
	for prev, fault := range map[segment.LSN]string{
		0x28:  "", // the record before has been damaged away
		0x90:  "",
		0x20:  "there is a record at 5/28, but it points back to 5/20",
		0xC00: "it points back to 5/C00, which is not on a page before",
	} {
		w := newWAL(1<<20, 1<<10, testStart)
		w.record(rmHeap, 0, 1, filler(100))
		w.record(rmHeap, 0, 1, filler(3000)) // up to page 3
		at := w.record(rmHeap, 0, 1, filler(100))
		w.seal(at, set64(8, testStart+prev))
		w.data[1<<10+8]++
		got := readAll(t, w.options(), w.start, w.data)
		want := []string{w.want[0], "fault: WAL at 5/400: the page address is 5/401 instead of 5/400"}
		if fault == "" {
			want = append(want, "unchecked 5/90-"+at.String(), strings.Replace(w.want[2], "prev 5/90", "prev "+(testStart+prev).String(), 1))
		} else {
			want = append(want, "unchecked 5/90-"+w.pos().String())
		}
		wantEvents(t, got, want)
		// The same where a Reader begins, only that there is no fault before.
		w.data[1<<10+8]--
		e := &events{t: t}
		r := newReader(t, w.options(), e)
		r.Feed(w.start, w.data[:40])
		e.lines = nil
		r.Feed(w.start+2<<10, w.data[2<<10:])
		if prev == 0x20 {
			fault = "" // nothing is known of the beginning
		}
		if faulty := strings.HasPrefix(e.lines[0], "fault"); faulty != (fault != "") || !strings.HasSuffix(e.lines[0], fault) {
			t.Errorf("pointing back to %s: %q; want %q", prev, e.lines, fault)
		}
	}
}

// TestReaderFindsEveryBit flips every single bit of a log that holds all there
// is. What is not found must be where the documentation says.
func TestReaderFindsEveryBit(t *testing.T) {
	w := newWAL(1<<20, 1<<10, testStart)
	w.record(rmHeap, 0, 1, filler(61))
	w.commit(1, 77)
	w.fill(8)
	w.record(rmHeap, 0, 1, filler(1500))
	w.Timeline = 2
	w.restorePoint("here", 5)
	w.lose(filler(9000), w.roomFor(2))
	w.overwrite()
	w.record(rmHeap, 0, 1, filler(200))
	w.switchSegment()
	fork, _ := segment.ParseLSN("5/A08") // on a page that keeps the timeline before
	o := w.options()
	o.History.Entries = []segment.HistoryEntry{{Timeline: 1, End: fork}}
	log := w.data[:8<<10]
	c := &tally{}
	readTally := func() int {
		*c = tally{}
		newReader(t, o, c).Feed(w.start, log)
		return c.faults
	}
	if readTally() != 0 || c.records != len(w.want) {
		t.Fatalf("not sound: %+v", *c)
	}
	void := int(w.begun - w.start)
	for bit := range len(log) * 8 {
		log[bit/8] ^= 1 << (bit % 8)
		found := readTally()
		log[bit/8] ^= 1 << (bit % 8)
		inPage := bit / 8 % 1024
		used := log[bit/8-inPage] != 0
		removable := inPage == 2 && 1<<(bit%8) == flagRemovable && used
		// Of the record that was abandoned only what the headers say is checked.
		abandoned := bit/8 >= void && bit/8 < void/1024*1024+2048 && inPage >= 24 && !checkedHead(bit/8-void, bit%8)
		if wanted := !removable && !abandoned; (found > 0) != wanted {
			t.Errorf("bit %d of byte %d on page %d: %d faults", bit%8, inPage, bit/8/1024, found)
		}
	}
}

// checkedHead tells whether a bit of a record's header is checked even if the
// record never ends: those of the length, of the pointer back, of the padding,
// and those without which there is no such resource manager.
func checkedHead(offset, bit int) bool {
	return offset < 4 || offset >= 8 && offset < 16 || offset == 17 && bit >= 4 && bit < 7 || offset >= 18 && offset < 20
}

// TestReaderFindsSampledBits flips bits of real segments and of the zeros
// between them. Each must be told of, as a fault or as unchecked: at the end of a
// segment a damaged length only makes the last record go on in the next one.
func TestReaderFindsSampledBits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, base := range []string{sampleHead, sampleFull, sampleAbandoned, sampleFork} {
		n, data := readSample(t, base)
		o := sampleOptions()
		o.History = sampleHistoryOf(t, n.Timeline)
		for range 200 {
			at := rnd.IntN(len(data))
			if rnd.IntN(2) == 0 { // the headers are few and count more
				at = at / sampleBlock * sampleBlock
				at += rnd.IntN(headerLen(at / sampleBlock))
			}
			bit := byte(1) << rnd.IntN(8)
			abandoned := base == sampleAbandoned && at >= 0xF8 && at < 0x10000 && at%sampleBlock >= 24
			if abandoned || at%sampleBlock == 2 && bit == flagRemovable {
				continue // as the documentation says
			}
			data[at] ^= bit
			v := &spotVisitor{at: n.Start(sampleSize) + segment.LSN(at)}
			r := newReader(t, o, v)
			r.Feed(n.Start(sampleSize), data)
			r.Finish()
			data[at] ^= bit
			if !v.told {
				t.Errorf("%s: bit %#x of byte %#x is not found", base, bit, at)
			}
		}
	}
}

// spotVisitor finds out whether a Reader tells that a byte is wrong or could not
// be checked.
type spotVisitor struct {
	at   segment.LSN
	told bool
}

func (v *spotVisitor) Segment(segment.LSN)            {}
func (v *spotVisitor) Record(*segment.Record)         {}
func (v *spotVisitor) Fault(segment.Fault)            { v.told = true }
func (v *spotVisitor) Unchecked(from, to segment.LSN) { v.told = v.told || v.at >= from && v.at < to }
