//go:build man

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Built with the tag man this is another program: "walrecv DIR" writes the manual pages
// into DIR/man, one for each command, and what shells complete command lines with into
// DIR/completions, and ends. What is shipped does not have it.
func init() {
	root := (&app{}).newRoot()
	dir := os.Args[1]
	for _, err := range []error{
		os.MkdirAll(dir+"/man", 0o755), writeManual(root, dir+"/man"),
		os.MkdirAll(dir+"/completions", 0o755), root.GenBashCompletionFileV2(dir+"/completions/bash", true),
		root.GenZshCompletionFile(dir + "/completions/zsh"), root.GenFishCompletionFile(dir+"/completions/fish", true),
	} {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailed)
		}
	}
	os.Exit(exitDone)
}

// writeManual writes the pages of a command and of those below it. (The generator that
// comes with cobra writes pages that mandoc objects to, and takes Markdown for it.)
func writeManual(cmd *cobra.Command, dir string) error {
	if cmd.Hidden {
		return nil
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	if err := os.WriteFile(filepath.Join(dir, name+".1"), manualPage(name, cmd), 0o644); err != nil {
		return err
	}
	for _, child := range cmd.Commands() {
		if err := writeManual(child, dir); err != nil {
			return err
		}
	}
	return nil
}

// manualPage depends on the source alone, and on SOURCE_DATE_EPOCH for its date.
func manualPage(name string, cmd *cobra.Command) []byte {
	seconds, _ := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`.TH %s 1 %s "walrecv %s" "walrecv manual"`, strings.ToUpper(name), time.Unix(seconds, 0).UTC().Format(time.DateOnly), version)
	line(".SH NAME\n%s \\- %s", roff(name), roff(cmd.Short))
	line(".SH SYNOPSIS\n.B %s", roff(cmd.UseLine()))
	if cmd.Long != "" {
		line(".SH DESCRIPTION")
		b.WriteString(roffText(cmd.Long))
	}
	if cmd.Flags().HasAvailableFlags() {
		line(".SH OPTIONS")
		cmd.Flags().VisitAll(func(f *pflag.Flag) { b.WriteString(roffOption(f)) })
	}
	if cmd.HasParent() {
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { b.WriteString(roffOption(f)) })
	} else {
		cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { b.WriteString(roffOption(f)) })
	}
	if cmd.Example != "" {
		line(".SH EXAMPLES")
		b.WriteString(roffText(cmd.Example))
	}
	line(".SH SEE ALSO")
	if cmd.HasParent() {
		line(".BR %s (1)", roff(strings.ReplaceAll(cmd.Parent().CommandPath(), " ", "-")))
	}
	for _, child := range cmd.Commands() {
		if !child.Hidden {
			line(".BR %s (1)", roff(strings.ReplaceAll(child.CommandPath(), " ", "-")))
		}
	}
	return b.Bytes()
}

// roffOption is an item of the list of options.
func roffOption(f *pflag.Flag) string {
	if f.Hidden {
		return ""
	}
	value, usage := pflag.UnquoteUsage(f)
	option := `\fB\-\-` + roff(f.Name) + `\fR`
	if f.Shorthand != "" {
		option = `\fB\-` + roff(f.Shorthand) + `\fR, ` + option
	}
	if f.NoOptDefVal == "" && value != "" {
		option += ` \fI` + roff(value) + `\fR`
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
		usage += " (default " + f.DefValue + ")"
	}
	return ".TP\n" + option + "\n" + roff(usage) + "\n"
}

// roffText keeps paragraphs, and as it stands what is indented.
func roffText(text string) string {
	var b strings.Builder
	verbatim := false
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		line = strings.TrimRight(line, "\n")
		if indented := strings.HasPrefix(line, " "); line != "" && indented != verbatim {
			verbatim = indented
			b.WriteString(map[bool]string{true: ".PP\n.EX\n", false: ".EE\n.PP\n"}[verbatim])
		}
		switch {
		case line != "":
			b.WriteString(roff(line) + "\n")
		case !verbatim:
			b.WriteString(".PP\n")
		}
	}
	if verbatim {
		b.WriteString(".EE\n")
	}
	page := strings.NewReplacer(".PP\n.PP\n", ".PP\n", ".PP\n.EE\n.PP\n", ".EE\n.PP\n").Replace(b.String())
	return strings.TrimPrefix(page, ".PP\n") // a section begins with one
}

// roff writes text so that it stands for itself.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `"`, `\(dq`, `'`, `\(aq`, "^", `\(ha`, "~", `\(ti`, "`", `\(ga`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
