package verify_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
)

// positions is a Visitor that notes where things stand in one segment.
type positions struct {
	start, end segment.LSN
	records    []segment.Record
}

func (p *positions) Segment(segment.LSN) {}
func (p *positions) Record(r *segment.Record) {
	if r.LSN >= p.start && r.LSN < p.end {
		p.records = append(p.records, *r)
	}
}
func (p *positions) Fault(segment.Fault)        {}
func (p *positions) Unchecked(_, _ segment.LSN) {}

// around is a sound archive of a segment and its neighbours, as far as records
// reach from it.
func (r *recording) around(t *testing.T, n segment.Name) *world {
	t.Helper()
	first, last := n.Number-1, n.Number+1
	for r.within(first) {
		first--
	}
	for r.within(last) {
		last++
	}
	near := func(m segment.Name) bool { return first <= m.Number && m.Number <= last }
	w := r.world(t, near)
	newest := n.Timeline
	for m := range r.segments {
		if near(m) {
			newest = max(newest, m.Timeline)
		}
	}
	for timeline := range r.histories {
		if timeline > newest {
			w.remove(w.historyKey(timeline)) // it is not reached
		}
	}
	wantSound(t, w.verify(verify.Options{Deep: true}))
	return w
}

// within tells whether no record begins in a segment.
func (r *recording) within(number uint64) bool {
	for n, data := range r.segments {
		if n.Number == number {
			return binary.LittleEndian.Uint32(data[16:]) > uint32(mib)-128*24-16
		}
	}
	return false
}

// bits lists the bits of a segment that are worth a try: of every field of page
// headers and record headers, of bodies, and anywhere. Offsets are in bits.
func (r *recording) bits(t *testing.T, rng *rand.Rand, n segment.Name, each int) (bits []int) {
	t.Helper()
	p := &positions{start: n.Start(mib), end: n.End(mib)}
	reader, err := segment.NewReader(segment.ReaderOptions{Identity: r.id.Segment()}, p)
	if err != nil {
		t.Fatal(err)
	}
	reader.Feed(p.start, r.segments[n])
	add := func(offset int) {
		if offset < int(mib) {
			bits = append(bits, offset*8+rng.IntN(8))
		}
	}
	pages := append([]int{0, 1}, rng.Perm(128)[:each]...)
	for _, page := range pages {
		for field := range 24 {
			add(page*8192 + field)
		}
	}
	for field := 24; field < 40; field++ {
		add(field)
	}
	for range min(each, len(p.records)) {
		record := p.records[rng.IntN(len(p.records))]
		at := int(record.LSN - p.start)
		for field := range 24 {
			add(at + field)
		}
		add(at + rng.IntN(int(record.Length)))
		add(int(record.End-p.start) - 1) // padding, or the last byte
	}
	for range 20 * each {
		bits = append(bits, rng.IntN(int(mib)*8))
	}
	return bits
}

// spared tells of the few bits that nobody can check: the flag that backup blocks
// may be removed, and what was written of a record that was abandoned. The
// digests are there for them.
func spared(data []byte, bit int) bool {
	const removable, overwrites = 2*8 + 2, 3
	if bit%(8192*8) == removable {
		return true
	}
	for page := bit/8/8192 + 1; page < len(data)/8192; page++ {
		header := data[page*8192:]
		if header[2]>>overwrites&1 == 1 {
			return true
		}
		if header[2]&1 == 0 || unused(header[:8192]) {
			break // no record goes on here
		}
	}
	return false
}

// TestDeepFindsEveryBit flips single bits of segments, gives each the right digest,
// and has them found.
func TestDeepFindsEveryBit(t *testing.T) {
	fewMajors(t, func(t *testing.T, r *recording) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		each := tries(1, 40)
		tried := 0
		for _, n := range r.flipped() {
			sound := r.around(t, n)
			bits := r.bits(t, rng, n, each)
			step := tries(len(bits)/3, 1) // each takes a verification; all kinds of places have their turn
			for at := rng.IntN(step); at < len(bits); at += step {
				bit := bits[at]
				if spared(r.segments[n], bit) {
					continue
				}
				changed := bytes.Clone(r.segments[n])
				changed[bit/8] ^= 1 << (bit % 8)
				w := sound.clone(t)
				w.put(n, changed)
				tried++
				if got := w.verify(verify.Options{Deep: true}); got.Sound() {
					t.Errorf("%s, byte %d, bit %d: not found", n.Format(mib), bit/8, bit%8)
				}
			}
		}
		t.Logf("%d bits", tried)
	})
}

// flipped are segments of all kinds that have a next one.
func (r *recording) flipped() (list []segment.Name) {
	for i, n := range r.names() {
		_, next := r.segments[n.Next()]
		if next && i%3 == 0 || n == r.on(2)[0] || n == r.on(5)[0] {
			list = append(list, n)
		}
	}
	return list
}

// TestDeepFindsEveryCut cuts segments off, fills them up with zeros, and gives
// them the right digest.
func TestDeepFindsEveryCut(t *testing.T) {
	r, _ := sample(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, n := range r.flipped() {
		sound := r.around(t, n)
		used := len(bytes.TrimRight(r.segments[n], "\x00"))
		cuts := []int{40, 8191, 8192, 8192 + 24, used - 1}
		if !pgtest.Long() {
			rng.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
			cuts = cuts[:1]
		}
		for range tries(1, 10) {
			cuts = append(cuts, 40+rng.IntN(used-40))
		}
		for _, at := range cuts {
			at = min(at, used-1)
			changed := bytes.Clone(r.segments[n])
			clear(changed[at:])
			w := sound.clone(t)
			w.put(n, changed)
			if got := w.verify(verify.Options{Deep: true}); got.Sound() {
				t.Errorf("%s, cut off at %d: not found", n.Format(mib), at)
			}
			w.put(n, r.segments[n][:at])
			if got := w.verify(verify.Options{}); got.Sound() {
				t.Errorf("%s, too short with %d bytes: not found", n.Format(mib), at)
			}
		}
		for range tries(1, 5) { // a page of zeros, and one of another segment: a recycled one
			page := rng.IntN(max(used/8192, 1)) * 8192
			w := sound.clone(t)
			changed := bytes.Clone(r.segments[n])
			clear(changed[page : page+8192])
			w.put(n, changed)
			if got := w.verify(verify.Options{Deep: true}); got.Sound() {
				t.Errorf("%s, empty page at %d: not found", n.Format(mib), page)
			}
			copy(changed[page:page+8192], r.segments[r.other(n)][page:])
			w.put(n, changed)
			if got := w.verify(verify.Options{Deep: true}); got.Sound() {
				t.Errorf("%s, stale page at %d: not found", n.Format(mib), page)
			}
		}
	}
}

// tries is how often to try, in the short and in the long form of the tests.
func tries(short, long int) int {
	if pgtest.Long() {
		return long
	}
	return short
}

// other is another segment of the recording that is full.
func (r *recording) other(n segment.Name) segment.Name {
	names := r.on(1)
	return names[(slices.Index(names, n)+3)%len(names)]
}

// TestPlainFindsEveryByte flips bits of an object and cuts it off, at random and
// around its ends. What is not found must not have changed anything: there are a
// few bits in the frame that say nothing about the content.
func TestPlainFindsEveryByte(t *testing.T) {
	r, _ := sample(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	harmless, tried := 0, 0
	for _, n := range r.flipped() {
		sound := r.around(t, n)
		object := sound.get(sound.key(n))
		try := func(changed []byte, what string, at int) {
			tried++
			w := sound.clone(t)
			w.store.Set(w.key(n), changed)
			got := w.verify(verify.Options{})
			if !got.Sound() {
				wantFound(t, got, verify.KindDamaged, w.key(n))
				return
			}
			plain, err := unpack(changed)
			if err != nil || !bytes.Equal(plain, r.segments[n]) || len(changed) != len(object) {
				t.Errorf("%s, %s at %d of %d: not found (%v)", n.Format(mib), what, at, len(object), err)
			}
			harmless++
		}
		for i := range 3 * tries(2, 20) {
			at := rng.IntN(len(object))
			if i%3 == 0 {
				at = i / 3 % len(object)
			} else if i%3 == 1 {
				at = len(object) - 1 - rng.IntN(min(100, len(object)))
			}
			changed := bytes.Clone(object)
			changed[at] ^= 1 << rng.IntN(8)
			try(changed, "flipped", at)
			try(object[:at], "cut off", at)
		}
		try(append(bytes.Clone(object), 0), "one byte more", 0)
		try(append(bytes.Clone(object), object...), "twice", 0)
	}
	t.Logf("%d tries, %d of them harmless", tried, harmless)
	if harmless*10 > tried {
		t.Errorf("%d of %d changes changed nothing", harmless, tried)
	}
}
