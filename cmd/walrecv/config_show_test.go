package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/storage"
)

// Each option, and each setting of the connection, says where its value came from.
func TestConfigShow(t *testing.T) {
	home := t.TempDir()
	for name, text := range map[string]string{
		".pgpass":          "*:*:*:archiver:5eC7et\n",
		".pg_service.conf": "[prod]\nsslmode=disable\nport=5433\n",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := writeFile(t, `archive = "s3://wal/prod"
dbname = "service=prod host=db1,db2"
[s3]
endpoint = "http://[::1]:9000"

[receive]
slot = "walrecv"
spool_max = "5GB"
`)
	environ := []string{
		"HOME=" + home, "PGUSER=archiver", "WALRECV_SPOOL_MAX=20GB", "WALRECV_CONFIG=" + file,
		"AWS_ACCESS_KEY_ID=5eC7et", "AWS_SECRET_ACCESS_KEY=5eC7et", "AWS_REGION=eu",
	}
	for _, args := range [][]string{
		{"config", "show", "--json", "receive", "-D", "/spool", "-p", "5434"},
		{"config", "show", "receive", "--directory=/spool", "--port", "5434", "--json"},
	} {
		o := walrecv(environ, args...)
		var shown shownConfig
		if err := json.Unmarshal([]byte(o.stdout), &shown); o.code != exitDone || err != nil {
			t.Fatalf("exit %d, %v, %s", o.code, err, o.stderr)
		}
		got := map[string]shownOption{}
		for _, list := range [][]shownOption{shown.Options, shown.Store} {
			for _, s := range list {
				got[s.Name] = s
			}
		}
		for _, s := range shown.Connection {
			got["conn "+s.Name] = s
		}
		for name, want := range map[string]shownOption{
			"directory":             {"directory", "/spool", "flag", "--directory"},
			"slot":                  {"slot", "walrecv", "file", file + ":7"},
			"spool-max":             {"spool-max", "20GB", "environment", "WALRECV_SPOOL_MAX"},
			"flush-interval":        {"flush-interval", "200ms", "default", ""},
			"archive":               {"archive", "s3://wal/prod?endpoint=http://[::1]:9000", "file", file + ":1 and [s3] in " + file},
			"dbname":                {"dbname", "service=prod host=db1,db2", "file", file + ":2"},
			"conn host":             {"host", "db1,db2", "file", file + ":2"},
			"conn port":             {"port", "5434", "flag", "--port"},
			"conn user":             {"user", "archiver", "environment", "PGUSER"},
			"conn sslmode":          {"sslmode", "disable", "file", filepath.Join(home, ".pg_service.conf")},
			"conn password":         {"password", "***", "file", filepath.Join(home, ".pgpass")},
			"AWS_REGION":            {"AWS_REGION", "eu", "environment", "AWS_REGION"},
			"AWS_SECRET_ACCESS_KEY": {"AWS_SECRET_ACCESS_KEY", "***", "environment", "AWS_SECRET_ACCESS_KEY"},
		} {
			if got[name] != want {
				t.Errorf("%v: %s is %+v, want %+v", args, name, got[name], want)
			}
		}
		if shown.Command != "receive" || shown.File != file || fmt.Sprint(shown.Hosts) != "[db1:5434 db2:5434]" {
			t.Errorf("%+v", shown)
		}
	}
	o := walrecv(environ, "config", "show", "receive", "-D", "/spool")
	for _, want := range []string{"\nspool-max  ", " WALRECV_SPOOL_MAX\n", "\nconnection to db1:5433, db2:5433\n", "\nstore\n"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("%q is not in\n%s", want, o.stdout)
		}
	}
	if strings.Contains(o.stdout, "5eC7et") {
		t.Errorf("a secret is shown:\n%s", o.stdout)
	}
	if o := walrecv(environ, "config", "show"); o.code != exitUsage {
		t.Errorf("without a command: exit %d", o.code)
	}
}

// Wherever a password may be, it is not shown.
func TestConfigShowsNoSecret(t *testing.T) {
	const secret = "5eC7et /@:'"
	quoted := `'` + strings.ReplaceAll(secret, "'", `\'`) + `'`
	for _, conninfo := range []string{
		"host=x password=" + quoted, "password = " + quoted + " host=x", "host=x sslpassword=" + quoted,
		"postgresql://u:" + url.QueryEscape("5eC7et/@:'") + "@x/", "postgres://x/?password=" + url.PathEscape(secret),
	} {
		file := writeFile(t, fmt.Sprintf("dbname = %q\n", conninfo))
		for _, environ := range [][]string{nil, {"PGPASSWORD=" + secret, "PGSSLPASSWORD=" + secret}} {
			for _, args := range []string{"config show receive", "config show --json backup create", "config check receive -D /x", "config show backup restore --primary-conninfo x"} {
				argv := append(strings.Fields(args), "--config", file)
				if args == "config show backup restore --primary-conninfo x" {
					argv[len(argv)-3] = conninfo
				}
				o := walrecv(environ, argv...)
				if o.code != exitDone || strings.Contains(o.stdout+o.stderr, "5eC7et") {
					t.Errorf("%s, %v: exit %d\n%s\n%s", conninfo, argv, o.code, o.stdout, o.stderr)
				}
			}
		}
	}
	// What cannot be read may be a password from end to end.
	for _, conninfo := range []string{"host=x 5eC7et", "password='5eC7et", "postgresql://u:5eC7et@x:5eC7et/"} {
		for _, text := range []string{
			fmt.Sprintf("dbname = %q\n", conninfo), fmt.Sprintf("dbnam = %q # password\n", conninfo),
			fmt.Sprintf("dbname = %q password\n", conninfo), fmt.Sprintf("[receive]\ndbname = [%q, \"password\"]\n", conninfo),
		} {
			file := writeFile(t, text)
			for _, args := range []string{"config show receive", "config check receive", "config check", "receive -D x"} {
				o := walrecv(nil, append(strings.Fields(args), "--config", file)...)
				if strings.Contains(o.stdout+o.stderr, "5eC7et") {
					t.Errorf("%s, %s: exit %d\n%s\n%s", text, args, o.code, o.stdout, o.stderr)
				}
			}
		}
	}
}

// TestShowMasksAnEndpoint with a password in its URL.
func TestShowMasksAnEndpoint(t *testing.T) {
	env := map[string]string{"AWS_ENDPOINT_URL": "http://user:hidden@store", "AWS_REGION": "here"}
	location, err := storage.ParseURL("s3://bucket/prefix")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(shownVariables(location, env))
	if strings.Contains(got, "hidden") || !strings.Contains(got, "here") {
		t.Error(got)
	}
}
