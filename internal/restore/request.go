package restore

import (
	"github.com/walrecv/walrecv/segment"
)

// request is what %f names.
type request struct {
	file     string
	history  segment.TimelineID // of a history file; 0: it is a segment
	timeline segment.TimelineID // of a segment
}

// parseRequest reads %f. PostgreSQL asks for segments and history files only,
// under names in upper case; everything else is a command line that is wrong,
// and is no question about the archive.
func parseRequest(file string) (request, error) {
	if t, err := segment.ParseHistoryName(file); err == nil {
		return request{file: file, history: t}, nil
	}
	// Every segment size has these names, so this size serves for a look at
	// the timeline. Whether the number exists is seen when the size is known.
	if segment.IsSegmentName(file) {
		n, err := segment.ParseName(file[:16]+"00000000", segment.MinSize)
		if err != nil {
			return request{}, problemf(misconfigured, "there is no timeline 0")
		}
		return request{file: file, timeline: n.Timeline}, nil
	}
	return request{}, problemf(misconfigured,
		"%.80q is neither a WAL segment nor a timeline history file: expected 24 upper-case hexadecimal digits, or 8 and \".history\"", file)
}
