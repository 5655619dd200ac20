package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// An option is declared once, as a flag. Its environment variable and its key
// in the configuration file follow from the flag's name, unless one of these
// annotations takes them away.
const (
	notInEnvironment = "walrecv_not_in_environment"
	notInFile        = "walrecv_not_in_file"

	refusedInEnvironment = "walrecv_refused_in_environment"

	// holdsConninfo marks connection strings, in which there can be passwords.
	holdsConninfo = "walrecv_holds_conninfo"
)

// annotate marks options that are declared in fs.
func annotate(fs *pflag.FlagSet, annotation string, names ...string) {
	for _, name := range names {
		fs.Lookup(name).Annotations = withKey(fs.Lookup(name).Annotations, annotation)
	}
}

// onlyOnCommandLine marks options that somebody has to give each time. A variable of
// that name is refused rather than ignored, unless it is another command's.
func onlyOnCommandLine(fs *pflag.FlagSet, names ...string) {
	annotate(fs, notInEnvironment, names...)
	annotate(fs, notInFile, names...)
	annotate(fs, refusedInEnvironment, names...)
}

func withKey(m map[string][]string, key string) map[string][]string {
	if m == nil {
		m = map[string][]string{}
	}
	m[key] = nil
	return m
}

func annotated(f *pflag.Flag, annotation string) bool {
	_, ok := f.Annotations[annotation]
	return ok
}

// environmentName is the variable of an option: --spool-max is
// WALRECV_SPOOL_MAX. It is empty for an option that has none.
func environmentName(f *pflag.Flag) string {
	if annotated(f, notInEnvironment) {
		return ""
	}
	return variableLike(f)
}

// variableLike is what the variable of an option would be called.
func variableLike(f *pflag.Flag) string {
	return "WALRECV_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// fileKey is the key of an option in the configuration file: --spool-max is
// spool_max. It is empty for an option that has none.
func fileKey(f *pflag.Flag) string {
	if annotated(f, notInFile) {
		return ""
	}
	return strings.ReplaceAll(f.Name, "-", "_")
}

// addCommonOptions declares what every command has. pg_receivewal's -h is the
// host, so help has only its long name and PostgreSQL's -?.
func addCommonOptions(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.BoolP("help", "?", false, "show this help, then exit")
	annotate(fs, notInEnvironment, "help")
	annotate(fs, notInFile, "help")
}

// addVersionOption declares pg_receivewal's -V.
func addVersionOption(fs *pflag.FlagSet) {
	fs.BoolP("version", "V", false, "print the version, then exit")
	annotate(fs, notInEnvironment, "version")
	annotate(fs, notInFile, "version")
}

// boolVar declares a switch.
func boolVar(fs *pflag.FlagSet, target *bool, name, short, usage string) {
	fs.VarPF((*boolValue)(target), name, short, usage).NoOptDefVal = "true"
}

// boolValue is a switch that is spelled as PostgreSQL's are.
type boolValue bool

// Set implements pflag.Value.
func (b *boolValue) Set(text string) error {
	switch strings.ToLower(text) {
	case "true", "on", "yes", "1":
		*b = true
	case "false", "off", "no", "0":
		*b = false
	default:
		return fmt.Errorf("invalid switch %q: valid are true, false, on, off, yes, no, 1, 0", text)
	}
	return nil
}

// String implements pflag.Value.
func (b *boolValue) String() string { return strconv.FormatBool(bool(*b)) }

// Type implements pflag.Value. The name "bool" makes pflag print no value.
func (*boolValue) Type() string { return kindBool }

// IsBoolFlag makes pflag hide the default "false".
func (*boolValue) IsBoolFlag() bool { return true }

// Kinds of values, as they stand in pflag.Value.Type. The kind decides what a
// configuration file may hold: kinds that are not listed take a string or a
// whole number.
const (
	kindBool   = "bool"
	kindString = "string"
	kindInt    = "int"
	kindList   = "list" // of strings
)

// parsed is an option whose text is read by a function. What format prints,
// parse reads.
type parsed[T any] struct {
	target *T
	kind   string
	parse  func(string) (T, error)
	format func(T) string
}

// Set implements pflag.Value. An error leaves the value as it was.
func (p parsed[T]) Set(text string) error {
	v, err := p.parse(text)
	if err != nil {
		return err
	}
	*p.target = v
	return nil
}

// String implements pflag.Value.
func (p parsed[T]) String() string {
	if p.target == nil {
		return ""
	}
	return p.format(*p.target)
}

// Type implements pflag.Value.
func (p parsed[T]) Type() string { return p.kind }

// textValue is a string that must not be empty: an empty one is most likely a
// variable of a script that was never set.
func textValue(target *string) pflag.Value {
	return parsed[string]{target, kindString, func(text string) (string, error) {
		if text == "" {
			return "", errors.New("must not be empty")
		}
		return text, nil
	}, func(s string) string { return s }}
}

// numberValue is a whole number from low to high.
func numberValue(target *int, low, high int) pflag.Value {
	return parsed[int]{target, kindInt, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("invalid number %q: must be between %d and %d", text, low, high)
		}
		return n, nil
	}, strconv.Itoa}
}

// choice is one word of a list.
type choice struct {
	parsed[string]
	words []string
}

func choiceValue(target *string, words ...string) pflag.Value {
	return choice{parsed[string]{target, kindString, func(text string) (string, error) {
		for _, word := range words {
			if text == word {
				return word, nil
			}
		}
		return "", fmt.Errorf("invalid value %q: valid are %s", text, strings.Join(words, ", "))
	}, func(s string) string { return s }}, words}
}

// positionValue is a position in the WAL.
func positionValue(target *segment.LSN) pflag.Value {
	return parsed[segment.LSN]{target, "lsn", segment.ParseLSN, segment.LSN.String}
}

// archiveValue is the URL of an archive.
func archiveValue(target *storage.Location) pflag.Value {
	return parsed[storage.Location]{target, kindString, storage.ParseURL, storage.Location.String}
}

// systemIDValue is a system identifier, which is never zero.
func systemIDValue(target *uint64) pflag.Value {
	return parsed[uint64]{target, "system identifier", func(text string) (uint64, error) {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("invalid system identifier %q: want the decimal number that pg_controldata prints", text)
		}
		return n, nil
	}, func(n uint64) string { return strconv.FormatUint(n, 10) }}
}

// compression is a method and its level; level 0 is the method's default.
type compression struct {
	method codec.Method
	level  int
}

// compressionValue is pg_receivewal's METHOD[:LEVEL].
func compressionValue(target *compression) pflag.Value {
	return parsed[compression]{target, "compression", func(text string) (compression, error) {
		method, level, err := codec.ParseSpec(text)
		return compression{method, level}, err
	}, func(c compression) string {
		if c.level == 0 {
			return string(c.method)
		}
		return fmt.Sprintf("%s:%d", c.method, c.level)
	}}
}

// rangeValue is a duration from low to high.
func rangeValue(target *units.Duration, low, high time.Duration) pflag.Value {
	return parsed[units.Duration]{target, "duration", func(text string) (units.Duration, error) {
		d, err := units.ParseDuration(text)
		if err == nil && (d < low || d > high) {
			err = fmt.Errorf("invalid duration %q: must be between %s and %s", text, units.FormatDuration(low), units.FormatDuration(high))
		}
		return units.Duration(d), err
	}, units.Duration.String}
}

// sizeValue is a number of bytes, low at least.
func sizeValue(target *units.Size, low int64) pflag.Value {
	return parsed[units.Size]{target, "size", func(text string) (units.Size, error) {
		n, err := units.ParseSize(text)
		if err == nil && n < low {
			err = fmt.Errorf("invalid size %q: must be at least %s", text, units.FormatSize(low))
		}
		return units.Size(n), err
	}, units.Size.String}
}
