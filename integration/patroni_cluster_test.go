package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// patroniMajor is the PostgreSQL of the release whose Patroni is tested.
const patroniMajor = 15

// patroniTemplate is the configuration of a node.
var patroniTemplate = filepath.Join("testdata", "patroni.yml")

// patroniReceive are the options of walrecv for such a cluster, besides where
// everything is.
var patroniReceive = []string{"--slot=walrecv", "--primary-only"}

// patroni is a cluster that Patroni looks after, with its configuration store.
type patroni struct {
	t       testing.TB
	etcd    int    // port
	archive string // of walrecv
	bin     string // walrecv
	asked   string // file with what restore_command was called for
	backup  string // directory of the base backup that a new replica may start from
	nodes   []*patroniNode
}

// patroniNode is a server and the Patroni that starts and stops it.
type patroniNode struct {
	*pgtest.Cluster
	cluster *patroni
	name    string
	config  string // file
	process *pgtest.Process
}

func newPatroni(t testing.TB) *patroni {
	t.Helper()
	p := &patroni{
		t: t, etcd: pgtest.Port(t), archive: newArchive(t), bin: pgtest.Build(t),
		backup: filepath.Join(pgtest.TempDir(t), "backup"), asked: filepath.Join(pgtest.TempDir(t), "asked"),
	}
	client := fmt.Sprintf("http://127.0.0.1:%d", p.etcd)
	peer := fmt.Sprintf("http://127.0.0.1:%d", pgtest.Port(t))
	pgtest.Command(t, patroniTool(t, "etcd"), "--name", "dcs", "--data-dir", filepath.Join(pgtest.TempDir(t), "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "dcs="+peer).Start()
	pgtest.Eventually(t, patience, func() bool { return etcdReady(client) }, "etcd does not come up")
	return p
}

// etcdReady tells whether the store knows who belongs to it: asked earlier,
// Patroni waits for five seconds.
func etcdReady(url string) bool {
	response, err := http.Get(url + "/version")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	version, err := io.ReadAll(response.Body)
	return err == nil && strings.Contains(string(version), `"etcdcluster":"3`)
}

// patroniTool is where a program of the cluster is.
func patroniTool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/bin", "/bin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatalf("no %s; get it with: tools/need patroni", name)
	return ""
}

// node makes a node. It is not started. methods says how it becomes a replica.
//
// restore_command stands in a file that postgresql.conf includes, and not among
// the settings of Patroni, which writes it for standbys only: the first leader
// would be rewound without an archive.
func (p *patroni) node(name, methods string) *patroniNode {
	p.t.Helper()
	n := &patroniNode{Cluster: pgtest.Managed(p.t, patroniMajor, 4<<20), cluster: p, name: name}
	n.config = filepath.Join(n.Dir, "patroni.yml")
	values := map[string]string{
		"NAME": name, "API_PORT": strconv.Itoa(pgtest.Port(p.t)), "ETCD_PORT": strconv.Itoa(p.etcd),
		"PORT": strconv.Itoa(n.Port), "DIR": n.Dir, "DATA_DIR": n.DataDir, "BIN_DIR": pgtest.BinDir(p.t, patroniMajor),
		"REPLICA_METHODS": methods, "BACKUP_DIR": p.backup,
	}
	writeFile(p.t, filepath.Join(n.Dir, "walrecv.conf"), []byte("restore_command = '"+p.restoreCommand()+"'\n"))
	template := string(readFile(p.t, patroniTemplate))
	writeFile(p.t, n.config, []byte(os.Expand(template, func(key string) string { return values[key] })))
	p.nodes = append(p.nodes, n)
	return n
}

// restoreCommand also notes what it is called for.
func (p *patroni) restoreCommand() string {
	return "echo %f %p >>" + p.asked + "; " + restoreCommand(p.bin, "--archive "+p.archive)
}

// start starts a node's Patroni, and with it the server. tini takes in the
// server when Patroni has let go of it, so that both end together.
func (n *patroniNode) start() *patroniNode {
	n.cluster.t.Helper()
	n.process = pgtest.Command(n.cluster.t, patroniTool(n.cluster.t, "tini"), "-s", "--",
		patroniTool(n.cluster.t, "patroni"), n.config).Start()
	return n
}

// log is what Patroni and the server have written since the last start.
func (n *patroniNode) log() string { return n.process.Stdout() + n.process.Stderr() }

// ctl runs patronictl.
func (p *patroni) ctl(args ...string) {
	p.t.Helper()
	all := append([]string{"-c", p.nodes[0].config}, args...)
	code, out, errOut := pgtest.Run(p.t, patroniTool(p.t, "patronictl"), all...)
	if code != 0 {
		p.t.Fatalf("patronictl %v ended with %d:\n%s%s", args, code, out, errOut)
	}
}

// leads waits until the node is the primary and walrecv streams from it, on the
// slot that Patroni makes.
func (n *patroniNode) leads() {
	n.cluster.t.Helper()
	n.WaitFor("select pg_is_in_recovery()", "f", patience)
	n.WaitFor("select active from pg_replication_slots where slot_name = 'walrecv'", "t", patience)
}

// follows waits until the node is a standby that streams from a leader.
func (n *patroniNode) follows(leader *patroniNode) {
	n.cluster.t.Helper()
	leader.WaitFor("select count(*) from pg_stat_replication where state = 'streaming' and application_name = '"+n.name+"'", "1", patience)
}

// newLeader waits until one of the nodes has been promoted.
func (p *patroni) newLeader(of ...*patroniNode) *patroniNode {
	p.t.Helper()
	var leader *patroniNode
	pgtest.Eventually(p.t, patience, func() bool {
		for _, n := range of {
			rows, err := n.TryQuery(p.t.Context(), "select pg_is_in_recovery()")
			if err == nil && rows[0][0] == "f" {
				leader = n
			}
		}
		return leader != nil
	}, "nobody was promoted")
	return leader
}

// conninfo names all nodes there are.
func (p *patroni) conninfo(user string) string {
	p.t.Helper()
	var hosts, ports []string
	for _, n := range p.nodes {
		hosts, ports = append(hosts, "127.0.0.1"), append(ports, strconv.Itoa(n.Port))
	}
	passfile := filepath.Join(pgtest.TempDir(p.t), "pgpass")
	writeFile(p.t, passfile, []byte("*:*:*:walrecv:the-receiver\n*:*:*:postgres:the-superuser\n"))
	return fmt.Sprintf("host=%s port=%s user=%s passfile=%s connect_timeout=3",
		strings.Join(hosts, ","), strings.Join(ports, ","), user, passfile)
}

// receive starts walrecv for the cluster.
func (p *patroni) receive(leader *patroniNode) *receiver {
	p.t.Helper()
	r := inSpool(p.t, leader.Cluster, newDir(p.t))
	r.args = append([]string{"receive"}, patroniReceive...)
	r.args = append(r.args, "-D", r.spool, "-d", p.conninfo("walrecv"), "--archive", p.archive)
	return r.start()
}
