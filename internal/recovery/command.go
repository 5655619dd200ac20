package recovery

import "strings"

// Command is a restore_command that calls this program's restore with the given
// options. PostgreSQL takes every exit code from 2 to 125 for a file that is not
// there, and ends recovery; walrecv never gives one, but what fails before it runs
// may, so the shell makes 200 of these; also of its own, in a trap, since dash ends with
// 2 where it cannot fork. Paths in args must be absolute: the server
// calls it in its data directory, pg_rewind wherever it was started.
func Command(binary string, args []string) string {
	var b strings.Builder
	b.WriteString(`answer() { r=$?; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r; }; trap answer EXIT; `)
	for _, word := range append([]string{binary, "restore"}, args...) {
		b.WriteString(strings.ReplaceAll(shellWord(word), "%", "%%"))
		b.WriteByte(' ')
	}
	// pg_rewind gives an absolute %p, which may have blanks.
	b.WriteString(`%f "%p"`)
	return b.String()
}

// plain are the characters besides letters and digits that no shell takes for
// anything else, wherever they stand.
const plain = "%+,-./:@_"

// shellWord quotes a word for sh, if it must be.
func shellWord(word string) string {
	special := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(plain, r)
	}
	if word != "" && !strings.ContainsFunc(word, special) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
