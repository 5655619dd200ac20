package receiver

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// defaultConnectTimeout is the limit of one connection attempt where the user
// set none: libpq would wait for ever, and a receiver that hangs looks healthy.
const defaultConnectTimeout = 10 * time.Second

// defaultAppName decides synchronous_standby_names matching, so it must be
// there and must not be that of another program.
const defaultAppName = "walrecv"

// replicationDatabase stands in for a database name: a walsender ignores it,
// but .pgpass lines for replication are written with it.
const replicationDatabase = "replication"

// ConnOptions say how to reach the server, as users of libpq say it. The
// command line wins over the connection string, that over a service, that over
// the environment.
type ConnOptions struct {
	// Conninfo is a connection string: keywords and values, or a URI.
	Conninfo string

	Host, Port, User string // -h, -p, -U; "": not given

	PrimaryOnly bool // a server in recovery will not do, whatever target_session_attrs says

	NoPassword    bool // -w: never ask
	ForcePassword bool // -W: ask before connecting

	// Password asks the operator. Without it nobody is asked.
	Password func(prompt string) (string, error)

	// AppName is the application_name if the user gave none; "": walrecv.
	AppName string

	// Getenv reads the environment: the PG* variables and HOME. Nil: there is
	// none, except for what pgconn reads by itself.
	Getenv func(string) string

	// Dial replaces net.Dialer, which then heeds no keepalives options.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Shuffle serves load_balance_hosts=random; nil: math/rand/v2.
	Shuffle func(n int, swap func(i, j int))

	// Log takes warnings, and notices of the server; nil: discarded. No
	// password ever gets there.
	Log *slog.Logger
}

// ConnConfig is how to reach a server, checked. Files it names (.pgpass,
// certificates) are read anew at every attempt, so that they can be replaced
// while the receiver runs. It is safe for concurrent use.
type ConnConfig struct {
	options  ConnOptions
	settings settings          // by keyword, the user's and the defaults that are ours
	from     map[string]string // where each of them came from
	hosts    []host
	timeout  time.Duration // of one attempt; 0: none
	log      *slog.Logger

	mu       sync.Mutex
	refused  map[host]bool // not to be tried for now; see refuse
	asked    bool
	password string          // what the operator typed
	warned   map[string]bool // warnings that were given
}

// host is one place to try.
type host struct {
	name    string // name, address or socket directory; what TLS verifies
	address string // hostaddr: the IP address to connect to instead of looking up name
	port    uint16
}

func (h host) socket() bool { return strings.HasPrefix(h.name, "/") }

// String names the host in messages.
func (h host) String() string {
	if h.socket() {
		return fmt.Sprintf("%s/.s.PGSQL.%d", h.name, h.port)
	}
	return net.JoinHostPort(h.name, strconv.Itoa(int(h.port)))
}

// ConnInfoError is a connection option that cannot be used. Its text never
// holds a password.
type ConnInfoError struct {
	Option string // the keyword; "" for the string as a whole
	Reason string
	Err    error // the cause, if there is one
}

func (e *ConnInfoError) Error() string {
	text := "connection string: " + e.Reason
	if e.Option != "" {
		text = fmt.Sprintf("connection option %q: %s", e.Option, e.Reason)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *ConnInfoError) Unwrap() error { return e.Err }

// ParseConnInfo reads and checks all that says how to connect. The errors are
// of type [*ConnInfoError]. Nothing is connected and nobody is asked yet.
func ParseConnInfo(options ConnOptions) (*ConnConfig, error) {
	if options.Getenv == nil {
		options.Getenv = func(string) string { return "" }
	}
	if options.Shuffle == nil {
		options.Shuffle = rand.Shuffle
	}
	if options.AppName == "" {
		options.AppName = defaultAppName
	}
	c := &ConnConfig{options: options, log: options.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.settings, c.from, err = gatherSettings(options); err != nil {
		return nil, err
	}
	if c.timeout, err = parseConnectTimeout(c.settings); err != nil {
		return nil, err
	}
	if c.hosts, err = parseHosts(c.settings); err != nil {
		return nil, err
	}
	if err := c.checkHosts(); err != nil {
		return nil, err
	}
	c.warn()
	return c, nil
}

// checkHosts makes the configuration of every host once, so that mistakes in
// it show at the start, and learns the default host.
func (c *ConnConfig) checkHosts() error {
	for i := range c.hosts {
		a, err := c.attempt(c.hosts[i], walsender)
		if err != nil {
			return err
		}
		c.hosts[i] = a.host
		if a.config.User == "" {
			return &ConnInfoError{Option: "user", Reason: "there is none, and the operating system knows no name for this process: use -U"}
		}
	}
	return nil
}

// warn tells of settings that have no effect here.
func (c *ConnConfig) warn() {
	if c.settings["tcp_user_timeout"] != "" && !haveUserTimeout {
		c.warnOnce("tcp_user_timeout has no effect on this operating system; leave it out")
	}
}

// warnOnce logs what would be the same at every attempt.
func (c *ConnConfig) warnOnce(message string, arguments ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned[message] {
		return
	}
	if c.warned == nil {
		c.warned = make(map[string]bool)
	}
	c.warned[message] = true
	c.log.Warn(message, arguments...)
}

// AppName is the application_name that the server sees.
func (c *ConnConfig) AppName() string {
	for _, name := range []string{c.settings["application_name"], c.settings["fallback_application_name"]} {
		if name != "" {
			return name
		}
	}
	return c.options.AppName
}

// Hosts lists the places that are tried, for messages.
func (c *ConnConfig) Hosts() []string {
	var names []string
	for _, h := range c.hosts {
		names = append(names, h.String())
	}
	return names
}

// parseHosts splits the lists of hosts, addresses and ports, which must be of
// equal length; a single port is that of all hosts. An empty element stands for
// the default.
func parseHosts(s settings) ([]host, error) {
	names := strings.Split(s["host"], ",")
	addresses := make([]string, len(names))
	if s["hostaddr"] != "" {
		addresses = strings.Split(s["hostaddr"], ",")
		if s["host"] == "" {
			names = make([]string, len(addresses))
		}
		if len(names) != len(addresses) {
			return nil, &ConnInfoError{Option: "hostaddr", Reason: fmt.Sprintf("%d addresses do not match %d hosts", len(addresses), len(names))}
		}
	}
	ports := strings.Split(s["port"], ",")
	if len(ports) > 1 && len(ports) != len(names) {
		return nil, &ConnInfoError{Option: "port", Reason: fmt.Sprintf("%d ports do not match %d hosts", len(ports), len(names))}
	}
	var hosts []host
	for i, name := range names {
		text := ports[0]
		if len(ports) > 1 {
			text = ports[i]
		}
		h, err := parseHost(name, addresses[i], text)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// parseHost never quotes a port that it refuses: in a malformed URI a piece of
// the password can stand in its place.
func parseHost(name, address, portText string) (host, error) {
	const defaultPort = 5432
	h := host{name: name, address: address, port: defaultPort}
	if portText = strings.TrimSpace(portText); portText != "" {
		port, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || port == 0 {
			return host{}, &ConnInfoError{Option: "port", Reason: "it must be a number from 1 to 65535"}
		}
		h.port = uint16(port)
	}
	if strings.HasPrefix(name, "@") {
		return host{}, &ConnInfoError{Option: "host", Reason: "sockets in the abstract namespace are not supported"}
	}
	if address == "" {
		return h, nil
	}
	if _, err := netip.ParseAddr(address); err != nil {
		return host{}, &ConnInfoError{Option: "hostaddr", Reason: "it must be an IP address"}
	}
	if h.name == "" {
		h.name = address
	}
	return h, nil
}

// parseConnectTimeout reads connect_timeout as libpq does: whole seconds, 0 or
// less for no limit.
func parseConnectTimeout(s settings) (time.Duration, error) {
	text := strings.TrimSpace(s["connect_timeout"])
	if text == "" {
		return defaultConnectTimeout, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, &ConnInfoError{Option: "connect_timeout", Reason: "it must be a number of seconds"}
	}
	return time.Duration(max(seconds, 0)) * time.Second, nil
}
