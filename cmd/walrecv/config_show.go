package main

import (
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/storage"
)

// shownConfig is the JSON document of "config show".
type shownConfig struct {
	Command    string        `json:"command"`
	File       string        `json:"config_file,omitempty"`
	Options    []shownOption `json:"options"`
	Connection []shownOption `json:"connection,omitempty"` // by libpq's keywords
	Hosts      []string      `json:"hosts,omitempty"`      // in the order in which they are tried
	Store      []shownOption `json:"store,omitempty"`      // variables that count for an archive in S3
}

// shownOption is an option that has a value, or could have one.
type shownOption struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`       // default, file, environment or flag
	At     string `json:"at,omitempty"` // FILE:LINE, FILE, a variable or an option
}

// showConfig is the work of "walrecv config show".
func (a *app) showConfig(asking *cobra.Command, args []string, o showOptions) error {
	cmd, err := a.target(asking, args)
	if err != nil {
		return err
	}
	json := o.json || cmd.Flags().Changed(jsonOption)
	if err := loadConfig(cmd, a.environ, cmd.Root); err != nil {
		return err
	}
	env := environment(a.environ)
	shown := shownConfig{
		Command: strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "),
		File:    (&loader{cmd: cmd}).configPath(env),
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "version" || f.Name == configOption || f.Hidden {
			return
		}
		from := originOf(f)
		shown.Options = append(shown.Options, shownOption{f.Name, shownValue(f), from.source, from.at})
	})
	value := optionValues(cmd)
	if cmd.Flags().Lookup("dbname") != nil {
		conn, err := a.connection(value.conn(), plainLogger(a.stderr))
		if err != nil {
			return err
		}
		shown.Hosts = conn.Hosts()
		for _, s := range conn.Settings() {
			shown.Connection = append(shown.Connection, shownSetting(cmd, s))
		}
	}
	if location, err := storage.ParseURL(value["archive"]); err == nil {
		shown.Store = shownVariables(location, env)
	}
	if json {
		return writeJSON(a.stdout, shown)
	}
	return shown.text(a.stdout)
}

// shownValue is the value of an option, or what stands for none.
func shownValue(f *pflag.Flag) string {
	switch {
	case annotated(f, holdsConninfo):
		return receiver.MaskConninfo(f.Value.String())
	case originOf(f).source == fromDefault:
		return f.DefValue
	}
	return f.Value.String()
}

// shownSetting says of a connection option where it came from in the words of the
// command line.
func shownSetting(cmd *cobra.Command, s receiver.Setting) shownOption {
	options := map[string]string{
		receiver.FromConninfo: "dbname", receiver.FromHost: "host", receiver.FromPort: "port", receiver.FromUser: "username",
	}
	from := origin{fromFile, s.From}
	if name, isOption := options[s.From]; isOption {
		from = originOf(cmd.Flags().Lookup(name))
	} else if !strings.Contains(s.From, "/") {
		from.source = fromEnvironment
	}
	return shownOption{s.Keyword, s.Value, from.source, from.at}
}

// shownVariables are the variables that an archive in S3 is used with.
func shownVariables(l storage.Location, env map[string]string) (list []shownOption) {
	for _, name := range storeVariables(l, env) {
		value := env[name]
		if storage.NamesSecret(name) && !strings.HasSuffix(name, "_FILE") || maySecret(value) {
			value = receiver.Masked
		}
		list = append(list, shownOption{name, value, fromEnvironment, name})
	}
	return list
}

// text prints it for people.
func (s *shownConfig) text(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	section := func(list []shownOption) {
		for _, o := range list {
			from := origin{o.Source, o.At}.String()
			say(table, "%s\t%s\t%s\n", o.Name, escaped(o.Value), escaped(from))
		}
		_ = table.Flush() // the last one tells
	}
	section(s.Options)
	if len(s.Hosts) > 0 {
		say(table, "\nconnection to %s\n", strings.Join(s.Hosts, ", "))
		section(s.Connection)
	}
	if len(s.Store) > 0 {
		say(table, "\nstore\n")
		section(s.Store)
	}
	return table.Flush()
}
