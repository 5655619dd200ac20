package drill

import (
	"bufio"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// linePrefix begins each line of the server's log: the time and the process.
const linePrefix = "%n [%p] "

// kept is how many lines of the log are kept for a report.
const kept = 200

// replay is what the server's log says about its recovery. The server's own words,
// in the C locale, are the interface: there is none other before it takes
// connections, and none at all for why it stopped.
type replay struct {
	Consistent   time.Time   // from here on it is not torn; zero: not yet
	ConsistentAt segment.LSN //
	Stopped      time.Time   // found the target
	StopReason   string      // in the server's words
	Paused       time.Time   // waits at the target
	Complete     time.Time   // recovery has ended
	Ready        time.Time   // takes connections that may write
	Done         segment.LSN // start of the record that was replayed last; 0: not known
	LastCommit   time.Time   // of the transactions that were replayed
	NewTimeline  uint32      // that it chose
	Current      segment.LSN // where it is

	// Full: the disk has no room any more, as the server says, or restore_command,
	// which would try for minutes.
	Full bool

	// Short are sizes that were larger on the primary, which stops the server
	// or its replay.
	Short map[string]int
}

// serverLog reads what the server, and what it has begun, writes to standard error.
// It is safe for concurrent use.
type serverLog struct {
	mu      sync.Mutex
	seen    replay
	lines   []string // the last ones, without the prefix
	bad     bool     // the line before was of an error: its details follow
	serious []string // errors, and what others said than the server

	changed chan struct{} // has a value once there was a new line
	ended   chan struct{} // closed at the end of the log
}

func newServerLog() *serverLog {
	return &serverLog{changed: make(chan struct{}, 1), ended: make(chan struct{}), seen: replay{Short: map[string]int{}}}
}

// read reads all of a log, and then closes ended.
func (l *serverLog) read(r io.Reader) {
	defer close(l.ended)
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			l.line(line)
		}
		if err != nil {
			return // nobody writes there any more
		}
	}
}

// state is what is known by now.
func (l *serverLog) state() replay {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// reasons are the last lines that can say why the server failed.
func (l *serverLog) reasons() []string {
	const most = 8
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.serious
	if len(from) == 0 {
		from = l.lines
	}
	return append([]string(nil), from[max(0, len(from)-most):]...)
}

// pattern is a regular expression that is compiled when it is used first.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

var (
	logLine = pattern(`^(\d+)\.(\d{3}) \[\d+\] ([A-Z0-9]+):  (.*)$`)

	consistentLine = pattern(`^consistent recovery state reached at ([0-9A-F]+/[0-9A-F]+)`)
	redoingLine    = pattern(`^redo in progress, .*current LSN: ([0-9A-F]+/[0-9A-F]+)`)
	startsLine     = pattern(`^redo starts at ([0-9A-F]+/[0-9A-F]+)`)
	doneLine       = pattern(`^redo done at ([0-9A-F]+/[0-9A-F]+)`)
	lastLine       = pattern(`^last completed transaction was at log time (.+)$`)
	timelineLine   = pattern(`^selected new timeline ID: (\d+)`)
	shortLine      = pattern(`^(max_[a-z_]+) = \d+ is a lower setting than on the primary server, where its value was (\d+)`)
)

const (
	stoppingPrefix = "recovery stopping "
	pausedMessage  = "pausing at the end of recovery"
	haltedMessage  = "recovery has paused"
	completeLine   = "archive recovery complete"
	readyLine      = "database system is ready to accept connections"
	preparedLine   = "maximum number of prepared transactions reached"
	serverTime     = "2006-01-02 15:04:05.999999-07"
)

// line takes one line of the log.
func (l *serverLog) line(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, level, message := splitLine(text)
	if message == "" {
		level, message = "", text
	}
	l.note(level, message)
	l.seen.observe(at, message)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// note keeps a line for a report.
func (l *serverLog) note(level, message string) {
	text := message
	if level != "" {
		text = level + ": " + message
	}
	switch level {
	case "FATAL", "PANIC", "ERROR", "WARNING":
		l.bad = true
	case "LOG", "NOTICE", "INFO":
		l.bad = false
	case "": // restore_command, or the next line of a message
		l.serious = keep(l.serious, text)
	}
	if l.bad && level != "" {
		l.serious = keep(l.serious, text)
	}
	l.lines = keep(l.lines, text)
}

func keep(lines []string, line string) []string {
	lines = append(lines, line)
	return lines[max(0, len(lines)-kept):]
}

// splitLine takes a line of the server apart. message is empty where it is somebody
// else's.
func splitLine(text string) (at time.Time, level, message string) {
	parts := logLine().FindStringSubmatch(text)
	if parts == nil {
		return time.Time{}, "", ""
	}
	seconds, err1 := strconv.ParseInt(parts[1], 10, 64)
	millis, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err1 != nil || err2 != nil {
		return time.Time{}, "", ""
	}
	return time.Unix(seconds, millis*int64(time.Millisecond)), parts[3], parts[4]
}

// observe takes what a message of the server says.
func (r *replay) observe(at time.Time, message string) {
	switch {
	case strings.HasPrefix(message, stoppingPrefix):
		r.Stopped, r.StopReason = at, message
	case strings.HasPrefix(message, pausedMessage):
		r.Paused = at
	case strings.HasPrefix(message, haltedMessage) && !r.Stopped.IsZero():
		r.Paused = at
	case message == completeLine:
		r.Complete = at
	case message == readyLine:
		r.Ready = at
	case strings.HasPrefix(message, preparedLine):
		const more = 8
		r.raise("max_prepared_transactions", more*max(sizes["max_prepared_transactions"], r.Short["max_prepared_transactions"]))
	}
	if lower := strings.ToLower(message); strings.Contains(lower, "no space left on device") || strings.Contains(lower, "disk quota exceeded") {
		r.Full = true
	}
	if m := shortLine().FindStringSubmatch(message); m != nil {
		if n, err := strconv.Atoi(m[2]); err == nil {
			r.raise(m[1], n)
		}
	}
	if m := lastLine().FindStringSubmatch(message); m != nil {
		if t, err := time.Parse(serverTime, m[1]); err == nil {
			r.LastCommit = t.UTC()
		}
	}
	if m := timelineLine().FindStringSubmatch(message); m != nil {
		if n, err := strconv.ParseUint(m[1], 10, 32); err == nil {
			r.NewTimeline = uint32(n)
		}
	}
	r.observePosition(at, message)
}

func (r *replay) observePosition(at time.Time, message string) {
	if m := consistentLine().FindStringSubmatch(message); m != nil {
		r.ConsistentAt = position(m[1])
		r.Consistent = at
		r.Current = max(r.Current, r.ConsistentAt)
	}
	for _, line := range []*regexp.Regexp{redoingLine(), startsLine()} {
		if m := line.FindStringSubmatch(message); m != nil {
			r.Current = max(r.Current, position(m[1]))
		}
	}
	if m := doneLine().FindStringSubmatch(message); m != nil {
		r.Done = position(m[1])
		r.Current = max(r.Current, r.Done)
	}
}

// raise notes a size that has to be larger. The map is never changed: states that
// were handed out hold it, too.
func (r *replay) raise(name string, n int) {
	short := map[string]int{name: n}
	for other, m := range r.Short {
		short[other] = max(m, short[other])
	}
	r.Short = short
}

// position reads a position that a pattern has found; 0 if it is none after all.
func position(text string) segment.LSN {
	l, err := segment.ParseLSN(text)
	if err != nil {
		return 0
	}
	return l
}
