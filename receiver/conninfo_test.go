package receiver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
)

// secret must never show.
const secret = "S3cr3t!pw"

// bareEnvironment takes away what would change the outcome, from pgconn too,
// and returns an empty home directory.
func bareEnvironment(t testing.TB) (home string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
		}
	}
	home = t.TempDir()
	t.Setenv("HOME", home)
	return home
}

func setenv(t testing.TB, variables map[string]string) {
	for name, value := range variables {
		t.Setenv(name, value)
	}
}

func writeFile(t testing.TB, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

// describe tells what would be done, in short.
func describe(t *testing.T, c *ConnConfig) []string {
	t.Helper()
	var out []string
	for _, h := range c.hosts {
		a, err := c.attempt(h, walsender)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%s user=%s db=%s", h, a.config.User, a.config.Database)
		if h.address != "" {
			text += " addr=" + h.address
		}
		if a.config.Password != "" {
			text += " password=" + a.config.Password
		}
		for _, key := range sortedKeys(a.config.RuntimeParams) {
			text += fmt.Sprintf(" %s=%s", key, a.config.RuntimeParams[key])
		}
		out = append(out, text)
	}
	return out
}

const always = " application_name=walrecv replication=true"

func TestParseConnInfo(t *testing.T) {
	for _, test := range []struct {
		name    string
		options ConnOptions
		env     map[string]string
		want    []string
	}{
		{
			name:    "keywords",
			options: ConnOptions{Conninfo: `host=db1 port = 5433 user='the user' password='it\'s \\ here'`},
			want:    []string{`db1:5433 user=the user db=replication password=it's \ here` + always},
		},
		{
			name:    "URI",
			options: ConnOptions{Conninfo: "postgresql://us%20er:p%40ss@db1:5433/ignored?application_name=x&sslmode=disable"},
			want:    []string{"db1:5433 user=us er db=replication password=p@ss application_name=x replication=true"},
		},
		{
			name:    "several hosts",
			options: ConnOptions{Conninfo: "postgres://u@db1,db2:5434,[::1]:5435"},
			want: []string{
				"db1:5432 user=u db=replication" + always,
				"db2:5434 user=u db=replication" + always,
				"[::1]:5435 user=u db=replication" + always,
			},
		},
		{
			name:    "one port for all",
			options: ConnOptions{Conninfo: "host=db1,db2 port=6000 user=u"},
			want:    []string{"db1:6000 user=u db=replication" + always, "db2:6000 user=u db=replication" + always},
		},
		{
			name:    "socket",
			options: ConnOptions{Conninfo: "host=/run/pg port=5433 user=u"},
			want:    []string{"/run/pg/.s.PGSQL.5433 user=u db=replication" + always},
		},
		{
			name:    "socket in a URI",
			options: ConnOptions{Conninfo: "postgresql://u@%2Frun%2Fpg/x"},
			want:    []string{"/run/pg/.s.PGSQL.5432 user=u db=replication" + always},
		},
		{
			name:    "addresses with and without names",
			options: ConnOptions{Conninfo: "host=db1,,db3 hostaddr=10.0.0.1,10.0.0.2,::3 user=u"},
			want: []string{
				"db1:5432 user=u db=replication addr=10.0.0.1" + always,
				"10.0.0.2:5432 user=u db=replication addr=10.0.0.2" + always,
				"db3:5432 user=u db=replication addr=::3" + always,
			},
		},
		{
			name:    "addresses only",
			options: ConnOptions{Conninfo: "hostaddr=10.0.0.1,10.0.0.2 user=u"},
			want: []string{
				"10.0.0.1:5432 user=u db=replication addr=10.0.0.1" + always,
				"10.0.0.2:5432 user=u db=replication addr=10.0.0.2" + always,
			},
		},
		{
			name:    "command line before string before environment",
			options: ConnOptions{Conninfo: "host=h1 port=1111 user=u1", Host: "h2", User: "u2"},
			env:     map[string]string{"PGHOST": "h0", "PGPORT": "1", "PGUSER": "u0", "PGPASSWORD": "p0", "PGAPPNAME": "a0"},
			want:    []string{"h2:1111 user=u2 db=replication password=p0 application_name=a0 replication=true"},
		},
		{
			name:    "ports of a URI hide PGPORT even if there are none",
			options: ConnOptions{Conninfo: "postgresql://u@h1,h2"},
			env:     map[string]string{"PGPORT": "1,2,3"},
			want:    []string{"h1:5432 user=u db=replication" + always, "h2:5432 user=u db=replication" + always},
		},
		{
			name:    "what primary_conninfo holds",
			options: ConnOptions{Conninfo: "user=u passfile='/nowhere' channel_binding=prefer host=h port=5432 sslmode=prefer sslcompression=0 sslcertmode=allow sslsni=1 ssl_min_protocol_version=TLSv1.2 gssencmode=prefer krbsrvname=postgres gssdelegation=0 target_session_attrs=any load_balance_hosts=disable fallback_application_name=walreceiver keepalives=1 keepalives_idle=60 tcp_user_timeout=9000 dbname=x replication=database"},
			want:    []string{"h:5432 user=u db=replication application_name=walreceiver replication=true"},
		},
		{
			name:    "the caller's name gives way to any other",
			options: ConnOptions{Conninfo: "host=h user=u", AppName: "slot_1"},
			want:    []string{"h:5432 user=u db=replication application_name=slot_1 replication=true"},
		},
		{
			name:    "server settings",
			options: ConnOptions{Conninfo: "host=h user=u options='-c wal_sender_timeout=5s' client_encoding=UTF8"},
			env:     map[string]string{"PGTZ": "Europe/Berlin", "PGDATABASE": "x"},
			want:    []string{"h:5432 user=u db=replication" + " application_name=walrecv client_encoding=UTF8 options=-c wal_sender_timeout=5s replication=true"},
		},
		{
			name:    "empty values are as good as none",
			options: ConnOptions{Conninfo: "host=h user=u sslmode='' gssencmode='' connect_timeout='' options='' keepalives=''"},
			want:    []string{"h:5432 user=u db=replication" + always},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bareEnvironment(t)
			setenv(t, test.env)
			test.options.Getenv = os.Getenv
			c, err := ParseConnInfo(test.options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, describe(t, c)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestDefaultHost(t *testing.T) {
	bareEnvironment(t)
	pg, err := pgconn.ParseConfig("user=u")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConnInfo(ConnOptions{Conninfo: "user=u", Getenv: os.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.hosts[0].name; got != pg.Host || got == "" {
		t.Errorf("default host %q, pgconn's is %q", got, pg.Host)
	}
}

func TestConnInfoRefused(t *testing.T) {
	for _, test := range []struct{ conninfo, option, text string }{
		{"host=h nonsense=1", "nonsense", "no such option"},
		{"host=h work_mem=1MB", "work_mem", "options='-c name=value'"},
		{"postgresql://h/?ssl=false", "ssl", "no such option"},
		{"database=x", "database", "no such option"},
		{"host", "", "character 1"},
		{"host=a b c=d", "", "character 8"},
		{"host=h password='" + secret, "", "not closed"},
		{"password=" + secret + " " + secret, "", "keyword=value"},
		{"host=h port=70000", "port", "65535"},
		{"host=h port=0", "port", "65535"},
		{"host=a,b,c port=1,2", "port", "2 ports do not match 3 hosts"},
		{"host=a,b hostaddr=10.0.0.1", "hostaddr", "1 addresses do not match 2 hosts"},
		{"hostaddr=db1", "hostaddr", "IP address"},
		{"host=@abstract", "host", "abstract"},
		{"host=h gssencmode=require", "gssencmode", "use TLS"},
		{"host=h gssencmode=x", "gssencmode", "one of disable, prefer"},
		{"host=h sslcrl=/x", "sslcrl", "not supported"},
		{"host=h sslcrldir=/x", "sslcrldir", "not supported"},
		{"host=h scram_client_key=" + secret, "scram_client_key", "not supported"},
		{"host=h oauth_issuer=x", "oauth_issuer", "not supported"},
		{"host=h sslmode=requre", "sslmode", "one of"},
		{"host=h sslmode=verify-full", "sslmode", "sslrootcert=system"},
		{"host=h sslmode=verify-ca", "sslmode", "needs a root certificate"},
		{"host=h sslrootcert=/nowhere/root.crt", "", "/nowhere/root.crt"},
		{"host=h sslcertmode=''", "sslcertmode", "one of"},
		{"host=h ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version", "one of"},
		{"host=h target_session_attrs=master", "target_session_attrs", "one of"},
		{"host=h load_balance_hosts=yes", "load_balance_hosts", "one of"},
		{"host=h connect_timeout=soon", "connect_timeout", "seconds"},
		{"host=h keepalives_idle=1min", "keepalives_idle", "whole number"},
		{"host=h channel_binding=no", "channel_binding", "one of"},
		{"host=h require_auth=pigeon", "", "pigeon"},
		{"host=h service=none", "service", `no service "none"`},
		{"host=h\x00", "", "NUL"},
		{"postgresql://u:" + secret + "@[::1/x", "host", "brackets"},
		{"postgresql://u@u:" + secret + "@h/x", "port", "65535"},
		{"postgresql://u:p@" + secret + "@h/x", "host", "%40"},
		{"postgresql://u:" + secret + "%zz@h", "password", "hexadecimal"},
		{"postgresql://u:" + secret + "%00@h", "password", "%00"},
		{"postgresql://h/?password=" + secret + " x", "password", "space"},
		{"postgresql://h/?password", "", "key=value"},
		{"postgresql://h/?password=a=" + secret, "", "key=value"},
	} {
		t.Run(test.conninfo, func(t *testing.T) {
			bareEnvironment(t)
			_, err := ParseConnInfo(ConnOptions{Conninfo: test.conninfo, Getenv: os.Getenv})
			var info *ConnInfoError
			if !errors.As(err, &info) {
				t.Fatalf("error %v", err)
			}
			if info.Option != test.option || !strings.Contains(err.Error(), test.text) {
				t.Errorf("option %q: %v", info.Option, err)
			}
			if Classify(err) != ClassUsage {
				t.Errorf("class %v", Classify(err))
			}
			if strings.Contains(err.Error(), secret) {
				t.Error("the password is in the message")
			}
		})
	}
}

func TestService(t *testing.T) {
	const file = "[main]\nhost=sh\nport=7777\nuser=su\nkeepalives_idle=7\ndbname=x\n[odd]\nhost=h\nnonsense=1\n[nested]\nservice=main\n"
	for _, test := range []struct {
		name, conninfo string
		env            map[string]string
		file           string // where the file is, below the home directory
		want           string // or the text of the error
	}{
		{
			name: "by the string", conninfo: "service=main", file: ".pg_service.conf",
			want: "sh:7777 user=su db=replication" + always,
		},
		{
			name: "by the environment", conninfo: "port=1234", file: ".pg_service.conf",
			env:  map[string]string{"PGSERVICE": "main", "PGHOST": "eh"},
			want: "sh:1234 user=su db=replication" + always,
		},
		{
			name: "system-wide", conninfo: "service=main", file: "etc/pg_service.conf",
			env:  map[string]string{"PGSYSCONFDIR": "HOME/etc"},
			want: "sh:7777 user=su db=replication" + always,
		},
		{
			name: "system-wide, by the environment", file: "etc/pg_service.conf",
			env:  map[string]string{"PGSYSCONFDIR": "HOME/etc", "PGSERVICE": "main"},
			want: "sh:7777 user=su db=replication" + always,
		},
		{
			name: "file given", conninfo: "service=main", file: "mine",
			env:  map[string]string{"PGSERVICEFILE": "HOME/mine"},
			want: "sh:7777 user=su db=replication" + always,
		},
		{name: "file missing", conninfo: "service=main", file: "other", env: map[string]string{"PGSERVICEFILE": "HOME/mine"}, want: "cannot be read"},
		{name: "unknown option", conninfo: "service=odd", file: ".pg_service.conf", want: `option "nonsense"`},
		{name: "nested", conninfo: "service=nested", file: ".pg_service.conf", want: "another one"},
		{name: "unknown service", conninfo: "service=none", file: ".pg_service.conf", want: "no service"},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := bareEnvironment(t)
			writeFile(t, filepath.Join(home, test.file), file, 0o644)
			for name, value := range test.env {
				t.Setenv(name, strings.Replace(value, "HOME", home, 1))
			}
			c, err := ParseConnInfo(ConnOptions{Conninfo: test.conninfo, Getenv: os.Getenv})
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Error(err)
				}
				return
			}
			if got := describe(t, c)[0]; got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
