package main

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/storage"
)

// IPv6 addresses and directories of sockets wherever a host can be given.
func TestHosts(t *testing.T) {
	for _, c := range []struct {
		o       connOptions
		environ string
		want    string // what is tried, or the error
	}{
		{connOptions{host: "::1"}, "", "[::1]:5432"},
		{connOptions{host: "::1", port: "5433"}, "", "[::1]:5433"},
		{connOptions{host: "fe80::1%eth0,10.0.0.1,/tmp", port: "1,2,3"}, "", "[fe80::1%eth0]:1 10.0.0.1:2 /tmp/.s.PGSQL.3"},
		{connOptions{host: "/run/postgresql"}, "", "/run/postgresql/.s.PGSQL.5432"},
		{connOptions{}, "PGHOST=::1", "[::1]:5432"},
		{connOptions{}, "PGHOST=/run/postgresql", "/run/postgresql/.s.PGSQL.5432"},
		{connOptions{}, "PGHOSTADDR=::1", "[::1]:5432"},
		{connOptions{dbname: "host=::1 port=5433"}, "", "[::1]:5433"},
		{connOptions{dbname: "host=db1 hostaddr=2001:db8::7"}, "", "db1:5432"},
		{connOptions{dbname: "host=db1,db2 hostaddr=2001:db8::7,::1 port=1,2"}, "", "db1:1 db2:2"},
		{connOptions{dbname: "postgresql://u@[::1]:5433/"}, "", "[::1]:5433"},
		{connOptions{dbname: "postgresql://[2001:db8::7]:1,[::1],10.0.0.1:3/"}, "", "[2001:db8::7]:1 [::1]:5432 10.0.0.1:3"},
		{connOptions{dbname: "postgresql://%2Frun%2Fpostgresql:5433/"}, "", "/run/postgresql/.s.PGSQL.5433"},
		{connOptions{dbname: "postgresql:///?host=/run/postgresql"}, "", "/run/postgresql/.s.PGSQL.5432"},
		{connOptions{dbname: "postgresql:///?host=::1"}, "", "[::1]:5432"},
		{connOptions{dbname: "postgresql://[::1/"}, "", "brackets"},
		{connOptions{dbname: "postgresql://[]/"}, "", "brackets"},
		{connOptions{dbname: "postgresql://[::1]x/"}, "", "behind the bracket"},
		{connOptions{dbname: "hostaddr=::g"}, "", "must be an IP address"},
		{connOptions{host: "@abstract"}, "", "abstract namespace"},
		{connOptions{host: "::1,::2", port: "1,2,3"}, "", "3 ports do not match 2 hosts"},
	} {
		a := newTestApp([]string{c.environ, "PGUSER=u"}, nil, nil)
		config, err := a.connection(c.o, slog.New(slog.DiscardHandler))
		got := fmt.Sprint(err)
		if err == nil {
			got = strings.Join(config.Hosts(), " ")
		}
		if err != nil && !strings.Contains(got, c.want) || err == nil && got != c.want {
			t.Errorf("%+v %s: %s, want %s", c.o, c.environ, got, c.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"9187": "127.0.0.1:9187", ":9187": "127.0.0.1:9187", "0.0.0.0:9187": "0.0.0.0:9187", "[::1]:9187": "[::1]:9187",
		"[::]:0": "[::]:0", "[fe80::1%lo]:1": "[fe80::1%lo]:1", "db1:9187": "db1:9187",
		"::1": "", "::1:9187": "", "[::1]": "", "[::1:9187": "", "::": "", "db1": "", "/run/x": "/run/x", "": "", "[::1]:65536": "", "[::1]:http": "",
	} {
		got, err := parseAddress(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for endpoint, good := range map[string]bool{
		"http://[::1]:9000": true, "https://[2001:db8::7]": true, "http://10.0.0.1:9000": true, "http://store:9000/": true,
		"http://::1:9000": false, "http://[::1": false, "[::1]:9000": false, "http://[::g]:9000": false, "/run/store.sock": false,
	} {
		l, err := storage.ParseURL("s3://wal/x?endpoint=" + endpoint)
		if (err == nil) != good || good && l.S3.Endpoint != endpoint {
			t.Errorf("%s: %+v, %v", endpoint, l.S3, err)
		}
	}
}
