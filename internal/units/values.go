package units

import "time"

// Size is a number of bytes that can be a command line option or a key of a
// configuration file: it implements pflag.Value and encoding.TextUnmarshaler.
type Size int64

// Set reads text as [ParseSize] does. An error leaves the value as it was.
func (s *Size) Set(text string) error {
	n, err := ParseSize(text)
	if err != nil {
		return err
	}
	*s = Size(n)
	return nil
}

// UnmarshalText is [Size.Set].
func (s *Size) UnmarshalText(text []byte) error { return s.Set(string(text)) }

// String prints the size as [FormatSize] does.
func (s Size) String() string { return FormatSize(int64(s)) }

// Type names the kind of value in help texts.
func (*Size) Type() string { return "size" }

// Duration is a span of time that can be a command line option or a key of a
// configuration file: it implements pflag.Value and encoding.TextUnmarshaler.
type Duration time.Duration

// Set reads text as [ParseDuration] does. An error leaves the value as it was.
func (d *Duration) Set(text string) error {
	n, err := ParseDuration(text)
	if err != nil {
		return err
	}
	*d = Duration(n)
	return nil
}

// UnmarshalText is [Duration.Set].
func (d *Duration) UnmarshalText(text []byte) error { return d.Set(string(text)) }

// String prints the duration as [FormatDuration] does.
func (d Duration) String() string { return FormatDuration(time.Duration(d)) }

// Type names the kind of value in help texts.
func (*Duration) Type() string { return "duration" }
