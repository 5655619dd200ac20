package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/storage"
)

// file applies a configuration file: first the shared keys on top, then the
// command's own table.
func (l *loader) file(path string) {
	doc, err := readDocument(path)
	if err != nil {
		l.fault(err)
		return
	}
	l.fault(doc.checkSecrets())
	table := topCommand(l.cmd).Name()
	shared := pflag.NewFlagSet("", pflag.ContinueOnError)
	addSharedOptions(shared)
	for _, e := range doc.entries("") {
		l.fault(l.topEntry(doc, shared, e))
	}
	if lender := lenders[table]; lender != "" {
		for _, e := range doc.entries(lender) {
			l.fault(l.lentEntry(doc, lender, e))
		}
	}
	for _, e := range doc.entries(table) {
		l.fault(l.ownEntry(doc, table, e))
	}
	for _, e := range doc.entries(s3Table) {
		l.fault(l.s3Entry(doc, e))
	}
}

// lenders name the commands whose tables count for another one, too: check is to
// find out whether receive works as it is configured, and what helps restore has its
// options.
var lenders = map[string]string{"check": "receive", helperName: restoreName}

// lentEntry applies a key of another command's table. An option that this command
// does not have is only checked.
func (l *loader) lentEntry(doc *document, lender string, e entry) error {
	f := l.optionIn(lender, e.key)
	if f == nil {
		return l.unknown(doc, e, lender)
	}
	if own := l.cmd.Flags().Lookup(f.Name); own != nil {
		f = own
	}
	return l.set(doc, f, e)
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
		// This command's own comes later, others do not matter.
		if own := topCommand(l.cmd).Name(); e.key != own && e.key != lenders[own] && e.key != s3Table {
			l.uselessAt(doc, e, "[%s] is for another command", e.key)
		}
		return nil
	}
	f := byKey(shared, e.key)
	if f == nil {
		return l.unknown(doc, e, "")
	}
	if own := l.cmd.Flags().Lookup(f.Name); own != nil {
		f = own
	} else {
		l.uselessAt(doc, e, "%s is for other commands", e.key)
	}
	return l.set(doc, f, e)
}

func (l *loader) uselessAt(doc *document, e entry, format string, args ...any) {
	l.useless = append(l.useless, doc.place(e)+": "+fmt.Sprintf(format, args...))
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
		err = l.assign(f, text, origin{fromFile, doc.place(e)})
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
		return doc.fault(e, "unknown table [%s]%s", e.key, didYouMean("[%s]", e.key, tables))
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
	return doc.fault(e, "%s%s", what, didYouMean("%q", e.key, l.keysOf(table)))
}

// keysOf lists the keys that a table can have, or the top for an empty name.
func (l *loader) keysOf(table string) (keys []string) {
	note := func(f *pflag.Flag) {
		if key := fileKey(f); key != "" {
			keys = append(keys, key)
		}
	}
	switch table {
	case "":
		shared := pflag.NewFlagSet("", pflag.ContinueOnError)
		addSharedOptions(shared)
		shared.VisitAll(note)
	case s3Table:
		return storage.S3Parameters()
	}
	for _, c := range l.root().Commands() {
		if c.Name() == table {
			visitOptions(c, note)
		}
	}
	return keys
}

// visitOptions calls visit for the options of a command and of those below it.
func visitOptions(cmd *cobra.Command, visit func(*pflag.Flag)) {
	cmd.Flags().VisitAll(visit)
	for _, child := range cmd.Commands() {
		visitOptions(child, visit)
	}
}

// didYouMean suggests the name that is nearest to one that is unknown, if one is near.
func didYouMean(format, name string, names []string) string {
	farthest := 2 // characters that differ
	if len(name) < 5 {
		farthest = len(name) / 3 // or anything is near
	}
	one := &cobra.Command{}
	for _, n := range names {
		one.AddCommand(&cobra.Command{Use: n, Run: func(*cobra.Command, []string) {}})
	}
	for one.SuggestionsMinimumDistance = 1; one.SuggestionsMinimumDistance <= farthest; one.SuggestionsMinimumDistance++ {
		if near := one.SuggestionsFor(name); len(near) > 0 {
			return "; did you mean " + fmt.Sprintf(format, near[0]) + "?"
		}
	}
	return ""
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
