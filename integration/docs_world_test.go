package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// world is where the commands of a page run. The page knows a machine with
// /srv/archive, /var/lib/walrecv and a server db1: each of its paths is below a
// directory of the test, each host is a server of the test, and so is each port.
// Nothing else of a command is another one.
type world struct {
	t        testing.TB
	root     string
	env      []string
	hosts    map[string]*pgtest.Cluster // by the names that pages give them
	ports    map[string]int             // that pages use besides
	words    map[string]string          // other names that are exchanged
	receiver *pgtest.Process            // the last "walrecv receive"
	before   map[string]func()          // what happens before the first fence with these words, and is nobody's command
	proof    func()                     // that the page has done what it says; nil if its commands are enough
}

// worldMajor is the PostgreSQL of the documentation: that of Debian 12.
const worldMajor = 15

// newWorld is a machine with a server db1, to which nothing was done yet, and the
// directories that a page takes for granted.
func newWorld(t testing.TB, dirs ...string) *world {
	t.Helper()
	w := &world{
		t: t, root: pgtest.DataDir(t), hosts: map[string]*pgtest.Cluster{}, ports: map[string]int{}, words: map[string]string{},
	}
	pgtest.Give(t, w.root)
	w.mkdir(append(dirs, "/usr/local/bin", "/home/postgres", "/tmp")...)
	w.link(pgtest.Build(t), "/usr/local/bin/walrecv")
	// Programs run as the user of the servers already, and as root nobody does.
	w.script("/usr/local/bin/sudo", `while case $1 in -u) shift 2 ;; -*) shift ;; *) false ;; esac; do :; done; exec "$@"`)
	w.startWith("")
	t.Cleanup(w.stopServers)
	w.env = []string{
		"PATH=" + strings.Join([]string{w.root + "/usr/local/bin", pgtest.BinDir(t, worldMajor), os.Getenv("PATH")}, ":"),
		"HOME=" + w.root + "/home/postgres", "TMPDIR=" + w.root + "/tmp",
	}
	w.addHost("db1", pgtest.New(t, pgtest.Options{Major: worldMajor}))
	w.onHost("db1")
	return w
}

// startWith makes pg_ctl give a server options, and its log a place.
func (w *world) startWith(options string) {
	w.t.Helper()
	w.script("/usr/local/bin/pg_ctl", `case " $* " in *" start "*) set -- -l /tmp/server.log `+options+` "$@" ;; esac
exec `+pgtest.BinDir(w.t, worldMajor)+`/pg_ctl "$@"`)
}

// addHost starts a server that pages know by a name.
func (w *world) addHost(name string, c *pgtest.Cluster) {
	w.t.Helper()
	if !c.Running() {
		c.Start()
	}
	w.hosts[name] = c
}

// onHost makes commands without a host talk to a server by its socket.
func (w *world) onHost(name string) {
	c := w.hosts[name]
	w.env = append(w.env, "PGHOST="+c.SocketDir, "PGPORT="+strconv.Itoa(c.Port))
}

// withRole makes the role of the pages.
func (w *world) withRole() *world {
	w.hosts["db1"].Exec("create role replicator login replication")
	return w
}

// stopServers ends what pages have started.
func (w *world) stopServers() {
	var dirs []string
	_ = filepath.WalkDir(w.root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "postmaster.pid" {
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil // what goes away meanwhile is no server's
	})
	for _, dir := range dirs {
		pgtest.Run(w.t, filepath.Join(pgtest.BinDir(w.t, worldMajor), "pg_ctl"), "-D", dir, "-m", "immediate", "stop")
	}
}

func (w *world) mkdir(dirs ...string) {
	w.t.Helper()
	for _, dir := range dirs {
		for made := w.root; ; {
			rest, _ := strings.CutPrefix(w.root+dir, made+"/")
			first, more, _ := strings.Cut(rest, "/")
			made = filepath.Join(made, first)
			if err := os.Mkdir(made, 0o755); err == nil {
				pgtest.Give(w.t, made)
			} else if !os.IsExist(err) {
				w.t.Fatal(err)
			}
			if more == "" {
				break
			}
		}
	}
}

func (w *world) link(target, path string) {
	w.t.Helper()
	if err := os.Symlink(target, w.root+path); err != nil {
		w.t.Fatal(err)
	}
}

// write makes a file, with the words of a page.
func (w *world) write(path, text string) {
	w.t.Helper()
	writeFile(w.t, w.root+path, []byte(w.here(text)))
}

func (w *world) script(path, text string) {
	w.t.Helper()
	w.write(path, "#!/bin/sh\n"+text+"\n")
	if err := os.Chmod(w.root+path, 0o755); err != nil {
		w.t.Fatal(err)
	}
}

// places are the directories of a page's machine. A path begins there only behind
// what cannot be part of another one.
var places = regexp.MustCompile(`(^|[^\w./-]|//)/(etc|home|mnt|opt|srv|scratch|tmp|usr/local|var)\b`)

var (
	hostWord = regexp.MustCompile(`\bhost=([\w,]+)`)
	hostFlag = regexp.MustCompile(`-h (\w+)`)
	hostPort = regexp.MustCompile(`\b(\w+):5432\b`)
	bindPort = regexp.MustCompile(`\b(5433|5434|9187)\b`)
)

// here is a text of a page, with the names of this world.
func (w *world) here(text string) string {
	text = places.ReplaceAllString(text, "${1}"+w.root+"/$2")
	replace := func(re *regexp.Regexp, with func(names []string) string) {
		text = re.ReplaceAllStringFunc(text, func(match string) string {
			names := strings.Split(re.FindStringSubmatch(match)[1], ",")
			if slices.ContainsFunc(names, func(n string) bool { return w.hosts[n] == nil }) {
				return match
			}
			return with(names)
		})
	}
	replace(hostWord, func(names []string) string {
		var hosts, ports []string
		for _, n := range names {
			hosts, ports = append(hosts, "127.0.0.1"), append(ports, strconv.Itoa(w.hosts[n].Port))
		}
		return "host=" + strings.Join(hosts, ",") + " port=" + strings.Join(ports, ",")
	})
	replace(hostFlag, func(names []string) string { return fmt.Sprintf("-h 127.0.0.1 -p %d", w.hosts[names[0]].Port) })
	replace(hostPort, func(names []string) string { return fmt.Sprintf("127.0.0.1:%d", w.hosts[names[0]].Port) })
	text = bindPort.ReplaceAllStringFunc(text, func(port string) string {
		if w.ports[port] == 0 {
			w.ports[port] = pgtest.Port(w.t)
		}
		return strconv.Itoa(w.ports[port])
	})
	for _, word := range slices.Sorted(maps.Keys(w.words)) {
		text = strings.ReplaceAll(text, word, w.words[word])
	}
	return text
}

// there turns what a command said into what it says on the page's machine.
func (w *world) there(text string) string {
	text = strings.ReplaceAll(text, w.root, "")
	for word, ours := range w.words {
		text = strings.ReplaceAll(text, ours, word)
	}
	return text
}

// try runs lines of a shell and returns what they said.
func (w *world) try(script string) (code int, output string) {
	w.t.Helper()
	p := pgtest.Command(w.t, "/bin/bash", "-c", "exec 2>&1; set -euo pipefail\n"+w.here(script))
	p.Env, p.Dir = w.env, w.root+"/home/postgres"
	code = p.Start().Wait(5 * patience)
	output = w.there(p.Stdout())
	w.t.Logf("$ %s\n%s", strings.TrimSpace(script), output)
	return code, output
}

// run runs lines of a shell that have to work.
func (w *world) run(script string) {
	w.t.Helper()
	if code, output := w.try(script); code != 0 {
		w.t.Fatalf("this ended with %d:\n%s\n%s", code, script, output)
	}
}

// receive starts a receiver as one does who has one at a time: the last one is
// stopped first. It goes on until the page ends.
func (w *world) receive(command string) {
	w.t.Helper()
	w.stopReceiver()
	p := pgtest.Command(w.t, "/bin/bash", "-c", "exec "+w.here(command))
	p.Env, p.Dir = w.env, w.root+"/home/postgres"
	w.receiver = p.Start()
	p.WaitOutput(`"msg":"streaming"`, patience)
}

func (w *world) stopReceiver() {
	w.t.Helper()
	if w.receiver == nil {
		return
	}
	if _, ended := w.receiver.Exited(); !ended {
		w.receiver.Signal(15)
		if code := w.receiver.Wait(patience); code != 0 {
			w.t.Fatalf("the receiver ended with %d: %s", code, w.receiver.Stderr())
		}
	}
	w.receiver = nil
}
