package codec

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseSpec reads METHOD[:LEVEL] as pg_receivewal's -Z takes it: the level may
// also be written as level=N, and a bare number is a level of gzip, or None if
// it is 0. A level of 0 in the result stands for the method's default.
func ParseSpec(text string) (Method, int, error) {
	if level, err := strconv.Atoi(text); err == nil {
		if level == 0 {
			return None, 0, nil
		}
		return withLevel(Gzip, level)
	}

	name, detail, hasDetail := strings.Cut(text, ":")
	m := Method(name)
	if _, ok := methods[m]; !ok {
		return "", 0, unknownMethod(name)
	}
	if !hasDetail {
		return m, 0, nil
	}
	if m == None {
		return "", 0, fmt.Errorf("compression method %q does not accept a compression level", m)
	}

	number, _ := strings.CutPrefix(detail, "level=")
	level, err := strconv.Atoi(number)
	if err != nil {
		return "", 0, fmt.Errorf("compression level of %q must be a whole number, not %q", m, number)
	}
	return withLevel(m, level)
}

// withLevel takes a level that the user wrote: 0 is not "the default" there,
// except for lz4, whose default PostgreSQL calls 0.
func withLevel(m Method, level int) (Method, int, error) {
	if level == 0 && m != LZ4 {
		def := methods[m]
		return "", 0, fmt.Errorf("compression method %q expects a compression level between %d and %d, not %d", m, def.min, def.max, level)
	}
	if err := checkLevel(m, level); err != nil {
		return "", 0, err
	}
	return m, level, nil
}
