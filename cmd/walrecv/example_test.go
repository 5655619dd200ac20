package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/storage"
)

const exampleFile = "../../packaging/walrecv.toml"

// exampleOption is an option of the example file.
type exampleOption struct {
	table, key, value string
	explained         bool // the line before is a comment
}

// readExample reads the options of the example file, also those that are commented
// out, and gives the text with all of them in effect.
func readExample(t *testing.T) (list []exampleOption, all string) {
	t.Helper()
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	option := regexp.MustCompile(`^#?([a-z0-9_]+) = (.+)$`)
	header := regexp.MustCompile(`^\[([a-z0-9]+)\]$`)
	table, before := "", ""
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if m := option.FindStringSubmatch(line); m != nil {
			list = append(list, exampleOption{table, m[1], m[2], strings.HasPrefix(before, "# ")})
			line = strings.TrimPrefix(line, "#")
		} else if m := header.FindStringSubmatch(line); m != nil {
			table = m[1]
		} else if line != "" && line != "#" && !strings.HasPrefix(line, "# ") {
			t.Errorf("what is this line? %s", line)
		}
		before = line
		text.WriteString(line + "\n")
	}
	return list, text.String()
}

// The example file has every option that a file can have, where it belongs, with its
// default and what it means; and is a valid file, also with all of them in effect.
func TestExampleFile(t *testing.T) {
	list, all := readExample(t)
	find := func(table, key string) (found []exampleOption) {
		for _, o := range list {
			if o.table == table && o.key == key {
				found = append(found, o)
			}
		}
		return found
	}
	shared := pflag.NewFlagSet("", pflag.ContinueOnError)
	addSharedOptions(shared)
	expected := map[string]bool{}
	visitCommands(newTestApp(nil, nil, nil).newRoot(), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			key, table := fileKey(f), topCommand(c).Name()
			switch {
			case key == "":
				return
			case shared.Lookup(f.Name) != nil:
				table = ""
			case lenders[table] != "" && len(find(lenders[table], key)) > 0:
				return // it stands there
			}
			found := find(table, key)
			if len(found) != 1 {
				t.Errorf("[%s] %s stands there %d times", table, key, len(found))
				return
			}
			expected[table+"."+key] = true
			checkExampleDefault(t, f, found[0])
		})
	})
	for _, name := range storage.S3Parameters() {
		expected[s3Table+"."+name] = true
		if len(find(s3Table, name)) != 1 {
			t.Errorf("[s3] %s stands there %d times", name, len(find(s3Table, name)))
		}
	}
	for _, o := range list {
		if !expected[o.table+"."+o.key] {
			t.Errorf("[%s] %s is no option", o.table, o.key)
		}
		if !o.explained {
			t.Errorf("[%s] %s: nothing says what it means", o.table, o.key)
		}
	}
	keys := []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}
	if o := walrecv(keys, "config", "check", "--config", exampleFile); o.code != exitDone || o.stderr != "" {
		t.Errorf("as it is: exit %d, %s", o.code, o.stderr)
	}
	if o := walrecv(keys, "config", "check", "--config", exampleFile, "receive"); o.code != exitDone {
		t.Errorf("for receive: exit %d, %s", o.code, o.stderr)
	}
	if o := walrecv(keys, "config", "check", "--config", writeFile(t, all)); o.code != exitDone {
		t.Errorf("with everything: exit %d, %s", o.code, o.stderr)
	}
}

// examplesOnly are options of which the default is no value, or is not what most want.
var examplesOnly = []string{"retry-for", "window", "system-id", "keep-backups", "ensure-slot"}

// checkExampleDefault compares what stands there with the default, if there is one.
func checkExampleDefault(t *testing.T, f *pflag.Flag, o exampleOption) {
	t.Helper()
	want := f.Value.String()
	if f.DefValue == "" || want == "" || slices.Contains(examplesOnly, f.Name) {
		return
	}
	if err := f.Value.Set(strings.Trim(o.value, `"`)); err != nil {
		t.Errorf("%s: %v", f.Name, err)
	}
	if got := f.Value.String(); got != want {
		t.Errorf("[%s] %s is %s, the default is %s", o.table, o.key, got, want)
	}
}
