package main

import (
	"errors"
	"fmt"
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
// default stays. Afterwards pflag's Changed says "given, wherever". A value
// that loses against a stronger source must be right all the same. root builds the
// whole tree of commands, which is needed only where something belongs to another
// one, or seems to.
func loadConfig(cmd *cobra.Command, environ []string, root func() *cobra.Command) error {
	env := environment(environ)
	l := loader{cmd: cmd, root: sync.OnceValue(root)}
	if path := l.configPath(env); path != "" {
		if err := l.file(path); err != nil {
			return err
		}
	}
	if err := l.environment(env); err != nil {
		return err
	}
	for _, f := range l.given {
		f.Changed = true
	}
	return l.completeArchive()
}

// loader fills the options of one command.
type loader struct {
	cmd   *cobra.Command
	root  func() *cobra.Command
	given []*pflag.Flag // what a file or the environment gave
	s3    storage.S3    // what [s3] gave
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
func (l *loader) assign(f *pflag.Flag, text string) error {
	set := f.Value.Set
	if l, several := f.Value.(list); several {
		set = l.set
	}
	if !f.Changed {
		l.given = append(l.given, f)
		return set(text)
	}
	kept := f.Value.String()
	return errors.Join(set(text), set(kept))
}

// environment applies the variables. An empty one counts as not set: that is
// how compose files and unit files leave one out.
func (l *loader) environment(env map[string]string) error {
	var errs []error
	l.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if name := variableLike(f); annotated(f, refusedInEnvironment) && env[name] != "" && !knownVariables(l.root())[name] {
			errs = append(errs, usageError("%s is set, but --%s can be given on the command line only", name, f.Name))
		}
		name := environmentName(f)
		if text := env[name]; name != "" && text != "" && f.Name != configOption {
			if err := l.assign(f, text); err != nil {
				errs = append(errs, usageError("%s: %w", name, err))
			}
		}
	})
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// file applies a configuration file: first the shared keys on top, then the
// command's own table.
func (l *loader) file(path string) error {
	table := topCommand(l.cmd).Name()
	doc, err := readDocument(path, table)
	if err != nil {
		return err
	}
	shared := pflag.NewFlagSet("", pflag.ContinueOnError)
	addSharedOptions(shared)
	for _, e := range doc.top {
		if err := l.topEntry(doc, shared, e); err != nil {
			return err
		}
	}
	if lender := lenders[table]; lender != "" {
		if err := l.borrow(path, lender); err != nil {
			return err
		}
	}
	for _, e := range doc.own {
		if err := l.ownEntry(doc, table, e); err != nil {
			return err
		}
	}
	for _, e := range doc.s3 {
		if err := l.s3Entry(doc, e); err != nil {
			return err
		}
	}
	return nil
}

// lenders name the commands whose tables count for another one, too: check is to
// find out whether receive works as it is configured, and what helps restore has its
// options.
var lenders = map[string]string{"check": "receive", helperName: restoreName}

// borrow applies another command's table. Its options that this command does not
// have are only checked.
func (l *loader) borrow(path, lender string) error {
	doc, err := readDocument(path, lender)
	if err != nil {
		return err
	}
	for _, e := range doc.own {
		f := l.optionIn(lender, e.key)
		if f == nil {
			return l.unknown(doc, e, lender)
		}
		if own := l.cmd.Flags().Lookup(f.Name); own != nil {
			f = own
		}
		if err := l.set(doc, f, e); err != nil {
			return err
		}
	}
	return nil
}

// optionIn finds an option of the command with a table.
func (l *loader) optionIn(table, key string) *pflag.Flag {
	for _, c := range l.root().Commands() {
		if c.Name() == table {
			return optionOf(c, key)
		}
	}
	return nil
}

// topEntry applies a key that stands on top. A shared option that this command
// does not have is only checked.
func (l *loader) topEntry(doc *document, shared *pflag.FlagSet, e entry) error {
	_, table := e.value.(map[string]any)
	if table && isTable(e.key) {
		return nil // this command's own comes later, others do not matter
	}
	f := byKey(shared, e.key)
	if f == nil {
		return l.unknown(doc, e, "")
	}
	if own := l.cmd.Flags().Lookup(f.Name); own != nil {
		f = own
	}
	return l.set(doc, f, e)
}

// ownEntry applies a key of the command's own table. What only a sibling has,
// as "slot create" beside "slot show", is checked, too.
func (l *loader) ownEntry(doc *document, table string, e entry) error {
	f := byKey(l.cmd.Flags(), e.key)
	if f == nil {
		f = optionOf(topCommand(l.cmd), e.key)
	}
	if f == nil {
		return l.unknown(doc, e, table)
	}
	return l.set(doc, f, e)
}

func (l *loader) set(doc *document, f *pflag.Flag, e entry) error {
	text, err := tomlText(f.Value.Type(), e.value)
	if err == nil {
		err = l.assign(f, text)
	}
	if err != nil {
		return doc.fault(e, "%s: %w", e.key, err)
	}
	return nil
}

// unknown refuses a key, and says where it belongs if another command has it.
// table is where it stands, empty for the top.
func (l *loader) unknown(doc *document, e entry, table string) error {
	if _, ok := e.value.(map[string]any); ok && table == "" {
		return doc.fault(e, "unknown table [%s]", e.key)
	}
	what := fmt.Sprintf("unknown key %q", e.key)
	if table != "" {
		what += " in [" + table + "]"
	}
	for _, c := range l.root().Commands() {
		if lender := lenders[c.Name()]; lender != "" && l.optionIn(lender, e.key) != nil {
			continue // that one is named
		}
		if c.Name() != table && optionOf(c, e.key) != nil {
			return doc.fault(e, "%s; it belongs in [%s]", what, c.Name())
		}
	}
	if table == "" && isTable(e.key) {
		return doc.fault(e, "%s must be a table", e.key)
	}
	return doc.fault(e, "%s", what)
}

// optionOf finds an option of a command or of the commands below it, if the
// command has a table.
func optionOf(cmd *cobra.Command, key string) *pflag.Flag {
	if !isTable(topCommand(cmd).Name()) {
		return nil
	}
	f := byKey(cmd.Flags(), key)
	for _, child := range cmd.Commands() {
		if f == nil {
			f = optionOf(child, key)
		}
	}
	return f
}

// byKey finds the option with this key in a configuration file.
func byKey(fs *pflag.FlagSet, key string) *pflag.Flag {
	f := fs.Lookup(strings.ReplaceAll(key, "_", "-"))
	if f == nil || fileKey(f) != key {
		return nil
	}
	return f
}

// tables are the tables a configuration file may have, also those of commands
// that other versions have: one file serves a fleet.
var tables = []string{
	"backup", "check", "drill", "prune", "push", "receive", "restore", s3Table, "slot", "status", "verify",
}

func isTable(name string) bool { return slices.Contains(tables, name) }

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

// tomlText turns a value of a configuration file into the text of an option of
// this kind.
func tomlText(kind string, value any) (string, error) {
	switch v := value.(type) {
	case bool:
		if kind == kindBool {
			return fmt.Sprint(v), nil
		}
	case int64:
		if kind != kindBool && kind != kindString {
			return fmt.Sprint(v), nil
		}
	case string:
		if kind != kindBool && kind != kindInt {
			return v, nil
		}
	case []any:
		if kind == kindList {
			return tomlList(v)
		}
	}
	switch kind {
	case kindBool:
		return "", errors.New("must be true or false")
	case kindInt:
		return "", errors.New("must be a whole number, without quotes")
	case kindString:
		return "", errors.New("must be a string, in quotes")
	case kindList:
		return "", errNoList
	}
	return "", errors.New("must be a string, in quotes, or a whole number")
}

var errNoList = errors.New("must be a string, in quotes, or a list of strings in brackets")

// tomlList turns a list of strings into the text of an option.
func tomlList(values []any) (string, error) {
	var texts []string
	for _, v := range values {
		text, ok := v.(string)
		if !ok {
			return "", errNoList
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ","), nil
}
