package receiver

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
)

// What both accept, both understand alike.
func FuzzConnInfo(f *testing.F) {
	for _, seed := range []string{
		"host=a user=b password=cccccccc", "host = 'a b' port=1", `password=a\'b user='\\'`, "host=a,b port=1,2 hostaddr=::1,::2",
		"postgresql://u:pppppppp@h:1,g:2/db?sslmode=require&application_name=x", "postgres://[::1]:5/?options=-c%20x%3D1",
		"postgres://a@u:sec:retretret@h/x", "postgresql:///?host=/run&port=5", "keepalives=0 tcp_user_timeout=5 replication=database",
		"postgres://u:p%zz@h", "host=a nonsense=1", "user='x", "options=\\", "postgresql://%2f,%2C?user=a&user=b",
	} {
		f.Add(seed)
	}
	bareEnvironment(f)
	f.Fuzz(func(t *testing.T, conninfo string) {
		written, err := parseConninfo(conninfo)
		password := ""
		for _, w := range written {
			switch w.key {
			case "service", "servicefile", "passfile", "sslcert", "sslkey", "sslrootcert":
				return // any file of this machine
			case "password":
				password = w.value
			}
		}
		c, failure := ParseConnInfo(ConnOptions{Conninfo: conninfo, User: "u"})
		if err != nil && failure == nil {
			t.Fatal("accepted what does not parse")
		}
		if failure != nil {
			quotesPassword := len(password) >= 8 && strings.Contains(failure.Error(), password)
			if quotesPassword && !keyContains(written, password) {
				t.Fatalf("the password %q is in %q", password, failure)
			}
			return
		}
		for _, h := range c.hosts {
			a, err := c.attempt(h, walsender)
			if err != nil {
				t.Fatalf("accepted, but: %v", err)
			}
			if a.config.Database != replicationDatabase || a.config.RuntimeParams["replication"] != "true" {
				t.Fatalf("database %q, parameters %q", a.config.Database, a.config.RuntimeParams)
			}
		}
		compareWithPgconn(t, conninfo, c)
	})
}

func keyContains(written []setting, text string) bool {
	for _, w := range written {
		if strings.Contains(printable(w.key), text) || strings.Contains(text, w.key) {
			return true
		}
	}
	return false
}

func compareWithPgconn(t *testing.T, conninfo string, c *ConnConfig) {
	pg, err := pgconn.ParseConfig(conninfo)
	if err != nil || c.settings["hostaddr"] != "" {
		return
	}
	hosts := []string{host{name: pg.Host, port: pg.Port}.String()}
	for _, f := range pg.Fallbacks {
		if name := (host{name: f.Host, port: f.Port}).String(); name != hosts[len(hosts)-1] {
			hosts = append(hosts, name)
		}
	}
	var ours []string
	for _, name := range c.Hosts() {
		if len(ours) == 0 || ours[len(ours)-1] != name {
			ours = append(ours, name)
		}
	}
	if diff := cmp.Diff(hosts, ours); diff != "" {
		t.Errorf("hosts of pgconn -, ours +:\n%s", diff)
	}
	if password := c.settings["password"]; password != pg.Password {
		t.Errorf("password %q, pgconn has %q", password, pg.Password)
	}
	if name := pg.RuntimeParams["application_name"]; name != "" && c.AppName() != name {
		t.Errorf("application_name %q, pgconn has %q", c.AppName(), name)
	}
	if options := c.settings["options"]; options != pg.RuntimeParams["options"] {
		t.Errorf("options %q, pgconn has %q", options, pg.RuntimeParams["options"])
	}
}
