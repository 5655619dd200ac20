package main

import (
	"fmt"

	"github.com/walrecv/walrecv/storage"
)

// s3Table is the table of a configuration file that has what an s3 URL can have
// as parameters.
const s3Table = "s3"

// s3Entry reads a key of that table.
func (l *loader) s3Entry(doc *document, e entry) error {
	switch {
	case storage.IsS3Parameter(e.key):
	case storage.NamesSecret(e.key): // the line is not shown
		return usageError("%s:%d: %s does not belong in a configuration file: give keys in the environment or in a profile", doc.path, e.at.line, e.key)
	default:
		return l.unknown(doc, e, s3Table)
	}
	var text string
	switch value := e.value.(type) {
	case string:
		text = value
	case bool:
		text = fmt.Sprint(value)
	default:
		return doc.fault(e, "%s must be a string, in quotes", e.key)
	}
	if err := l.s3.Set(e.key, text); err != nil {
		return doc.fault(e, "%w", err)
	}
	l.s3At = doc.path
	return nil
}

// completeArchive gives the archive URL the parameters of [s3] that it does not
// have itself, wherever it came from.
func (l *loader) completeArchive() {
	f := l.cmd.Flags().Lookup("archive")
	if l.s3 == (storage.S3{}) || f == nil || !f.Changed {
		return
	}
	value, ok := f.Value.(parsed[storage.Location])
	if !ok || value.target.Scheme != storage.SchemeS3 {
		return
	}
	location := *value.target
	location.S3 = location.S3.Or(l.s3)
	// Read again: the rules between parameters hold for the whole, too.
	if err := f.Value.Set(location.String()); err != nil {
		l.fault(usageError("--archive with what [%s] says: %w", s3Table, err))
		return
	}
	from := originOf(f)
	origin{from.source, from.at + " and [" + s3Table + "] in " + l.s3At}.note(f)
}
