package drill

import (
	"fmt"
	"strings"
)

// ParseChecks reads a file of checks: SQL statements, each of which ends with a
// semicolon at the end of a line, or with the file. A semicolon within a line is part
// of the statement, so functions and strings can hold them. Comments (--) that have
// a line of their own are left out; others are the server's business.
func ParseChecks(text string) ([]string, error) {
	var checks []string
	var lines []string
	begun := 0
	for i, line := range strings.Split(strings.TrimPrefix(text, "\uFEFF"), "\n") {
		line = strings.TrimRight(line, " \t\r")
		bare := strings.TrimLeft(line, " \t")
		if bare == "" && len(lines) == 0 || strings.HasPrefix(bare, "--") {
			continue
		}
		if strings.HasPrefix(bare, `\`) && len(lines) == 0 {
			return nil, fmt.Errorf("line %d: %.40q is a command of psql, and no SQL", i+1, bare)
		}
		if strings.ContainsRune(line, 0) {
			return nil, fmt.Errorf("line %d: a zero byte", i+1)
		}
		if len(lines) == 0 {
			begun = i + 1
		}
		end := strings.HasSuffix(line, ";")
		lines = append(lines, strings.TrimSuffix(line, ";"))
		if !end {
			continue
		}
		check := strings.TrimSpace(strings.Join(lines, "\n"))
		if check == "" {
			return nil, fmt.Errorf("line %d: a semicolon without a statement", begun)
		}
		checks, lines = append(checks, check), nil
	}
	if last := strings.TrimSpace(strings.Join(lines, "\n")); last != "" {
		checks = append(checks, last)
	}
	return checks, nil
}
