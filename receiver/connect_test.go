package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/fakepg"
)

func fake(t *testing.T, config fakepg.Config) *fakepg.Server {
	t.Helper()
	s := fakepg.New(config)
	t.Cleanup(s.Close)
	return s
}

// network is where servers are reached by name, without any network. A name
// that leads nowhere refuses.
type network map[string]*fakepg.Server

func (n network) dial(ctx context.Context, nw, address string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if s, ok := n[name]; ok && s != nil {
		return s.Dial(ctx, nw, address)
	}
	return nil, &net.OpError{Op: "dial", Net: nw, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

func parse(t *testing.T, o ConnOptions) *ConnConfig {
	t.Helper()
	bareEnvironment(t)
	return parseHere(t, o)
}

func parseHere(t *testing.T, o ConnOptions) *ConnConfig {
	t.Helper()
	o.Getenv = os.Getenv
	c, err := ParseConnInfo(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connectTo returns the outcome of Connect; the connection is closed at the end
// of the test.
func connectTo(t *testing.T, c *ConnConfig) (*pgconn.PgConn, *ConnectError) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := Connect(ctx, c)
	if err == nil {
		t.Cleanup(func() {
			HangUp(conn)
			<-conn.CleanupDone()
		})
		return conn, nil
	}
	var failure *ConnectError
	if !errors.As(err, &failure) {
		t.Fatalf("not a ConnectError: %v", err)
	}
	return nil, failure
}

func TestStartupParameters(t *testing.T) {
	s := fake(t, fakepg.Config{})
	c := parse(t, ConnOptions{
		Conninfo: "host=a user=u dbname=x replication=database keepalives=1 keepalives_idle=5 tcp_user_timeout=3 gssencmode=disable " +
			"fallback_application_name=f sslcompression=0 load_balance_hosts=disable options='-c x=y' target_session_attrs=any",
		Dial: network{"a": s}.dial,
	})
	if _, failure := connectTo(t, c); failure != nil {
		t.Fatal(failure)
	}
	want := map[string]string{"user": "u", "database": "replication", "replication": "true", "application_name": "f", "options": "-c x=y"}
	if diff := cmp.Diff(want, s.Startups()[0]); diff != "" {
		t.Error(diff)
	}
}

// Every value of target_session_attrs, against both roles, by ParameterStatus
// and by SHOW.
func TestTargetSessionAttrs(t *testing.T) {
	for _, version := range []string{"13.23", "15.18 (Debian 15.18-0+deb12u1)"} {
		primary := fake(t, fakepg.Config{Version: version, SystemID: 1})
		standby := fake(t, fakepg.Config{Version: version, SystemID: 2, Standby: true})
		for _, test := range []struct{ hosts, attrs, want string }{
			{"p", "any", "p"},
			{"s", "any", "s"},
			{"s,p", "read-write", "p"},
			{"s,p", "primary", "p"},
			{"p,s", "read-only", "s"},
			{"p,s", "standby", "s"},
			{"p,s", "prefer-standby", "s"},
			{"p", "prefer-standby", "p"},
			{"none,p", "prefer-standby", "p"},
			{"p", "read-only", ""},
			{"p", "standby", ""},
			{"s", "read-write", ""},
			{"s", "primary", ""},
		} {
			c := parse(t, ConnOptions{
				Conninfo: fmt.Sprintf("host=%s user=u target_session_attrs=%s", test.hosts, test.attrs),
				Dial:     network{"p": primary, "s": standby}.dial,
			})
			got := ""
			conn, failure := connectTo(t, c)
			if failure == nil {
				got = conn.CustomData()[hostKey].(host).name
			} else if failure.Class != ClassRetry || !errors.Is(failure, errRole) {
				t.Errorf("%s %s: class %v: %v", test.hosts, test.attrs, failure.Class, failure)
			}
			if got != test.want {
				t.Errorf("%s, %s of %s: %q, want %q", version, test.attrs, test.hosts, got, test.want)
			}
		}
	}
	primary, standby := fake(t, fakepg.Config{SystemID: 1}), fake(t, fakepg.Config{SystemID: 2, Standby: true})
	for hosts, want := range map[string]string{"s,p": "p", "p": "p", "s": "", "s attrs=standby": "", "s,p attrs=read-write": "p"} {
		hosts, attrs, given := strings.Cut(hosts, " attrs=")
		if !given {
			attrs = "any"
		}
		c := parse(t, ConnOptions{
			Conninfo: fmt.Sprintf("host=%s user=u target_session_attrs=%s", hosts, attrs), PrimaryOnly: true,
			Dial: network{"p": primary, "s": standby}.dial,
		})
		got := ""
		conn, failure := connectTo(t, c)
		if failure == nil {
			got = conn.CustomData()[hostKey].(host).name
		} else if failure.Class != ClassRetry || !strings.Contains(failure.Error(), "--primary-only") {
			t.Errorf("only a primary, of %s: class %v: %v", hosts, failure.Class, failure)
		}
		if got != want {
			t.Errorf("only a primary, of %s %s: %q, want %q", hosts, attrs, got, want)
		}
	}
	readOnly := fake(t, fakepg.Config{Parameters: map[string]string{"default_transaction_read_only": "on"}})
	for attrs, want := range map[string]bool{"read-write": false, "read-only": true, "primary": true, "standby": false} {
		c := parse(t, ConnOptions{Conninfo: "host=a user=u target_session_attrs=" + attrs, Dial: network{"a": readOnly}.dial})
		if _, failure := connectTo(t, c); (failure == nil) != want {
			t.Errorf("%s of a read-only primary: %v", attrs, failure)
		}
	}
}

func TestSeveralHosts(t *testing.T) {
	good := fake(t, fakepg.Config{})
	starting := fake(t, fakepg.Config{Startup: refuse("57P03")})
	locked := fake(t, fakepg.Config{Startup: refuse("28000")})
	wrong := fake(t, fakepg.Config{Startup: refuse("28P01")})
	hosts := network{"good": good, "starting": starting, "locked": locked, "wrong": wrong}
	for _, test := range []struct {
		hosts string
		class Class
		code  string // of the failure; "": connected
	}{
		{"down,starting,locked,good", 0, ""},
		{"locked,locked", ClassFatal, "28000"},
		{"down,locked", ClassRetry, "28000"},
		{"locked,starting", ClassRetry, "57P03"},
		{"down,wrong,good", ClassFatal, "28P01"}, // not one more try with this password
	} {
		c := parse(t, ConnOptions{Conninfo: "user=u password=x host=" + test.hosts, Dial: hosts.dial})
		_, failure := connectTo(t, c)
		if failure == nil {
			failure = &ConnectError{}
		}
		if failure.Class != test.class || failure.Code != test.code {
			t.Errorf("%s: class %v, code %q: %v", test.hosts, failure.Class, failure.Code, failure)
		}
	}
}

func refuse(code string) func(*fakepg.Conn, map[string]string) *fakepg.Error {
	return func(*fakepg.Conn, map[string]string) *fakepg.Error {
		return &fakepg.Error{Code: code, Message: "nicht auf Englisch"}
	}
}

func TestLoadBalance(t *testing.T) {
	s := fake(t, fakepg.Config{})
	reverse := func(n int, swap func(i, j int)) {
		for i := range n / 2 {
			swap(i, n-1-i)
		}
	}
	for setting, want := range map[string]string{"random": "c", "disable": "a"} {
		c := parse(t, ConnOptions{
			Conninfo: "user=u host=a,b,c load_balance_hosts=" + setting, Shuffle: reverse,
			Dial: network{"a": s, "b": s, "c": s}.dial,
		})
		conn, failure := connectTo(t, c)
		if failure != nil {
			t.Fatal(failure)
		}
		if got := conn.CustomData()[hostKey].(host).name; got != want {
			t.Errorf("%s: connected to %s", setting, got)
		}
	}
}

// prompter counts how often the operator was asked.
type prompter struct {
	answer string
	asked  int
}

func (p *prompter) ask(string) (string, error) {
	p.asked++
	if p.answer == "" {
		return "", errors.New("no terminal")
	}
	return p.answer, nil
}

func TestPrompt(t *testing.T) {
	locked := fake(t, fakepg.Config{Auth: "scram-sha-256", Passwords: map[string]string{"u": secret}})
	open := fake(t, fakepg.Config{})
	hosts := network{"locked": locked, "open": open}
	for _, test := range []struct {
		name    string
		options ConnOptions
		answer  string
		asked   int
		line    string // of the failure
	}{
		{"on demand", ConnOptions{Conninfo: "host=locked"}, secret, 1, ""},
		{"not without need", ConnOptions{Conninfo: "host=open"}, secret, 0, ""},
		{"not if there is one", ConnOptions{Conninfo: "host=locked password=" + secret}, "x", 0, ""},
		{"not after a wrong one", ConnOptions{Conninfo: "host=locked password=wrong"}, secret, 0, "correct PGPASSWORD"},
		{"-W", ConnOptions{Conninfo: "host=open", ForcePassword: true}, secret, 1, ""},
		{"-W wins", ConnOptions{Conninfo: "host=locked password=wrong", ForcePassword: true}, secret, 1, ""},
		{"-w", ConnOptions{Conninfo: "host=locked", NoPassword: true}, secret, 0, "there is none"},
		{"wrong answer", ConnOptions{Conninfo: "host=locked"}, "wrong", 1, "authentication failed"},
		{"no answer", ConnOptions{Conninfo: "host=locked"}, "", 1, "no terminal"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &prompter{answer: test.answer}
			test.options.User = "u"
			test.options.Password = p.ask
			test.options.Dial = hosts.dial
			c := parse(t, test.options)
			_, failure := connectTo(t, c)
			if test.line == "" && failure != nil || test.line != "" && (failure == nil || !strings.Contains(failure.Error(), test.line)) {
				t.Errorf("failure: %v", failure)
			}
			if failure != nil && failure.Class != ClassFatal {
				t.Errorf("class %v", failure.Class)
			}
			connected := failure == nil
			if p.asked != test.asked {
				t.Errorf("asked %d times", p.asked)
			}
			// The answer holds for the connections to come.
			if _, failure := connectTo(t, c); (failure == nil) != connected || connected && p.asked != test.asked {
				t.Errorf("second connection: %v, asked %d times", failure, p.asked)
			}
		})
	}
}

func TestPasswordFromFile(t *testing.T) {
	s := fake(t, fakepg.Config{Auth: "password", Passwords: map[string]string{"u": secret}})
	home := bareEnvironment(t)
	path := writeFile(t, filepath.Join(home, ".pgpass"), "b:*:replication:u:"+secret+"\n*:*:*:*:wrong\n", 0o600)
	var logged strings.Builder
	o := ConnOptions{
		Conninfo: "host=down,b user=u", Dial: network{"a": s, "b": s}.dial,
		Log: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if _, failure := connectTo(t, parseHere(t, o)); failure != nil {
		t.Error(failure)
	}
	o.Conninfo = "host=a user=u"
	if _, failure := connectTo(t, parseHere(t, o)); failure == nil || !strings.Contains(failure.Error(), "the password came from "+path) {
		t.Error(failure)
	}
	if strings.Contains(logged.String(), secret) {
		t.Error("the password is in the log")
	}
}

// A server that accepts the connection and says nothing costs one time-out.
func TestConnectTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c := parse(t, ConnOptions{Conninfo: "host=127.0.0.1 user=u sslmode=disable port=" + port})
	if c.timeout != defaultConnectTimeout {
		t.Errorf("default time-out %v", c.timeout)
	}
	c.timeout = 30 * time.Millisecond
	_, failure := connectTo(t, c)
	if failure == nil || failure.Class != ClassRetry || !strings.Contains(failure.Line, "no answer within 30ms") {
		t.Error(failure)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx, c); !errors.Is(err, context.Canceled) || Classify(err) != ClassRetry {
		t.Errorf("cancelled: %v", err)
	}
	for text, want := range map[string]time.Duration{"7": 7 * time.Second, "0": 0, "-1": 0, " 3 ": 3 * time.Second} {
		if c := parse(t, ConnOptions{Conninfo: "host=h user=u connect_timeout='" + text + "'"}); c.timeout != want {
			t.Errorf("connect_timeout=%q: %v", text, c.timeout)
		}
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	_, failure := connectTo(t, parse(t, ConnOptions{Conninfo: "host=127.0.0.1 user=u port=" + port}))
	if failure == nil || failure.Class != ClassRetry || !strings.Contains(failure.Line, "connection refused") || failure.Host != "127.0.0.1:"+port {
		t.Error(failure)
	}
	_, failure = connectTo(t, parse(t, ConnOptions{Conninfo: "user=u host=" + t.TempDir()}))
	if failure == nil || failure.Class != ClassRetry || !strings.Contains(failure.Line, "no such file") {
		t.Error(failure)
	}
}

func TestKeepalives(t *testing.T) {
	for text, want := range map[string]net.Dialer{
		"":                    {KeepAliveConfig: net.KeepAliveConfig{Enable: true}},
		"keepalives=1":        {KeepAliveConfig: net.KeepAliveConfig{Enable: true}},
		"keepalives=0":        {KeepAlive: -1},
		"keepalives_idle=60":  {KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute}},
		"keepalives_idle=0":   {KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1}},
		"keepalives_count=3":  {KeepAliveConfig: net.KeepAliveConfig{Enable: true, Count: 3}},
		"keepalives_count=-1": {KeepAliveConfig: net.KeepAliveConfig{Enable: true, Count: -1}},
		"keepalives_interval=5 keepalives_idle=6": {
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 6 * time.Second, Interval: 5 * time.Second},
		},
	} {
		d := parse(t, ConnOptions{Conninfo: "host=h user=u " + text}).netDialer()
		if d.KeepAlive != want.KeepAlive || d.KeepAliveConfig != want.KeepAliveConfig {
			t.Errorf("%s: %v %+v", text, d.KeepAlive, d.KeepAliveConfig)
		}
	}
}

// hostaddr is where to connect, host is what it is called.
func TestHostaddr(t *testing.T) {
	s := fake(t, fakepg.Config{})
	var mu sync.Mutex
	dialed := map[string]bool{}
	dial := func(ctx context.Context, nw, address string) (net.Conn, error) {
		mu.Lock()
		dialed[address] = true
		mu.Unlock()
		return s.Dial(ctx, nw, address)
	}
	c := parse(t, ConnOptions{Conninfo: "host=db1 hostaddr=::7 user=u", Dial: dial})
	conn, failure := connectTo(t, c)
	if failure != nil {
		t.Fatal(failure)
	}
	if got := slices.Collect(maps.Keys(dialed)); len(got) != 1 || got[0] != "[::7]:5432" {
		t.Errorf("dialed %q", got)
	}
	if name := conn.CustomData()[hostKey].(host).name; name != "db1" {
		t.Errorf("name %q", name)
	}
}

// An ordinary connection is made to the server of the replication connection, also
// where the name leads somewhere else by then.
func TestSQLToTheSameServer(t *testing.T) {
	s := fake(t, fakepg.Config{})
	address, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	var dialled []string
	c := parse(t, ConnOptions{
		Conninfo: "host=db user=u sslmode=disable port=" + port,
		Dial: func(ctx context.Context, nw, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			return new(net.Dialer).DialContext(ctx, nw, net.JoinHostPort("127.0.0.1", port))
		},
	})
	conn, failure := connectTo(t, c)
	if failure != nil {
		t.Fatal(failure)
	}
	other, err := ConnectSQL(t.Context(), c, conn)
	if err != nil {
		t.Fatal(err)
	}
	HangUp(other)
	<-other.CleanupDone()
	if want := []string{"db:" + port, "127.0.0.1:" + port}; !slices.Equal(dialled, want) {
		t.Errorf("connected to %v, want %v", dialled, want)
	}
}
