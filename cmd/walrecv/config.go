package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/storage"
)

// configOption names the configuration file. It is declared for all commands
// at once, so that it may also stand before the command's name.
const configOption = "config"

// addConfigOption declares --config on the root command.
func addConfigOption(root *cobra.Command) {
	fs := root.PersistentFlags()
	fs.Var(textValue(new(string)), configOption, "read options from the TOML `FILE`")
	annotate(fs, notInFile, configOption)
}

// addSharedOptions declares the options that several commands have. Their keys
// stand on top of the configuration file; a command's own table may repeat them.
func addSharedOptions(fs *pflag.FlagSet) {
	addConnOptions(fs, new(connOptions))
	addArchiveOptions(fs, new(archiveOptions))
	addEncryptOptions(fs, new(encryptOptions))
	addReadOptions(fs, new(readOptions), onlyCluster)
}

// loadConfig gives a value to every option of cmd that the command line left
// alone: from the environment, else from the configuration file, else the
// default stays. Afterwards pflag's Changed says "given, wherever", and originOf says
// where. A value that loses against a stronger source must be right all the same. root
// builds the whole tree of commands, which is needed only where something belongs to
// another one, or seems to.
func loadConfig(cmd *cobra.Command, environ []string, root func() *cobra.Command) error {
	l := newLoader(cmd, root)
	l.load(environment(environ))
	if len(l.faults) > 0 {
		return l.faults[0]
	}
	return nil
}

// loader fills the options of one command. It goes on behind what is wrong, so that
// all of it can be told at once.
type loader struct {
	cmd     *cobra.Command
	root    func() *cobra.Command
	given   []*pflag.Flag // what a file or the environment gave
	s3      storage.S3    // what [s3] gave
	s3At    string        // and where it stands
	faults  []error
	useless []string // what stands in the file and is of no use to this command
}

func newLoader(cmd *cobra.Command, root func() *cobra.Command) *loader {
	return &loader{cmd: cmd, root: sync.OnceValue(root)}
}

func (l *loader) load(env map[string]string) {
	if path := l.configPath(env); path != "" {
		l.file(path)
	}
	l.environment(env)
	for _, f := range l.given {
		f.Changed = true
	}
	l.completeArchive()
}

// fault notes what is wrong, if something is.
func (l *loader) fault(err error) {
	if err != nil {
		l.faults = append(l.faults, err)
	}
}

// configPath is the configuration file, or empty.
func (l *loader) configPath(env map[string]string) string {
	f := l.cmd.Flags().Lookup(configOption)
	if f.Changed {
		return f.Value.String()
	}
	return env[environmentName(f)]
}

// assign sets an option, unless the command line did: then it only checks the
// text.
func (l *loader) assign(f *pflag.Flag, text string, from origin) error {
	set := f.Value.Set
	if l, several := f.Value.(list); several {
		set = l.set
	}
	if !f.Changed {
		if err := set(text); err != nil {
			return err
		}
		l.given = append(l.given, f)
		from.note(f)
		return nil
	}
	kept := f.Value.String()
	return errors.Join(set(text), set(kept))
}

// environment applies the variables. An empty one counts as not set: that is
// how compose files and unit files leave one out.
func (l *loader) environment(env map[string]string) {
	l.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if name := variableLike(f); annotated(f, refusedInEnvironment) && env[name] != "" && !knownVariables(l.root())[name] {
			l.fault(usageError("%s is set, but --%s can be given on the command line only", name, f.Name))
		}
		name := environmentName(f)
		if text := env[name]; name != "" && text != "" && f.Name != configOption {
			if err := l.assign(f, text, origin{fromEnvironment, name}); err != nil {
				l.fault(usageError("%s: %w", name, err))
			}
		}
	})
}

// Where the value of an option can come from.
const (
	fromDefault     = "default"
	fromFile        = "file"
	fromEnvironment = "environment"
	fromFlag        = "flag"
)

// origin is where the value of an option came from.
type origin struct {
	source string // one of the constants
	at     string // FILE:LINE, the name of the variable or of the option; empty for a default
}

// String names the place for people.
func (o origin) String() string {
	if o.source == fromDefault {
		return o.source
	}
	return o.at
}

// noteOfOrigin is the annotation of an option that a file or the environment gave.
const noteOfOrigin = "walrecv_origin"

func (o origin) note(f *pflag.Flag) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[noteOfOrigin] = []string{o.source, o.at}
}

// originOf says where the value of an option came from, once it is loaded.
func originOf(f *pflag.Flag) origin {
	note := f.Annotations[noteOfOrigin]
	switch {
	case note != nil:
		return origin{note[0], note[1]}
	case f.Changed:
		return origin{fromFlag, "--" + f.Name}
	}
	return origin{source: fromDefault}
}

// topCommand is the command below the root that cmd is or belongs to.
func topCommand(cmd *cobra.Command) *cobra.Command {
	for cmd.HasParent() && cmd.Parent().HasParent() {
		cmd = cmd.Parent()
	}
	return cmd
}

// environment turns os.Environ's form into a map. Of several the last counts.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// kubernetesName matches what Kubernetes sets for a service whose name begins
// with "walrecv".
const kubernetesName = `^WALRECV(_.*)?_(SERVICE_(HOST|PORT(_.*)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`

// knownVariables are those that some command reads.
func knownVariables(root *cobra.Command) map[string]bool {
	known := map[string]bool{}
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		note := func(f *pflag.Flag) { known[environmentName(f)] = true }
		c.Flags().VisitAll(note)
		c.PersistentFlags().VisitAll(note)
		for _, child := range c.Commands() {
			visit(child)
		}
	}
	visit(root)
	return known
}

// strangeVariables lists the WALRECV_ variables that no command knows: they are
// ignored, but most likely misspelled.
func strangeVariables(root *cobra.Command, environ []string) []string {
	known := knownVariables(root)
	kubernetes := regexp.MustCompile(kubernetesName)
	var strange []string
	for name := range environment(environ) {
		if strings.HasPrefix(name, "WALRECV_") && !known[name] && !kubernetes.MatchString(name) {
			strange = append(strange, name)
		}
	}
	slices.Sort(strange)
	return strange
}
