package drill

import (
	"slices"
	"strings"
	"testing"
)

func TestParseChecks(t *testing.T) {
	tests := []struct {
		text string
		want []string
	}{
		{"", nil},
		{"-- nothing\n\n  -- here\n", nil},
		{"select true", []string{"select true"}},
		{"select true;\nselect 1 = 1;  \r\n", []string{"select true", "select 1 = 1"}},
		{"\uFEFFselect true;", []string{"select true"}},
		{"-- how many\nselect count(*) > 0\n  -- not a line\nfrom t\n;\n\nselect 'a;b' <> ''; -- behind\n", []string{"select count(*) > 0\nfrom t", "select 'a;b' <> ''; -- behind"}},
		{"select ';' = ';';\nselect $$\n;x$$ is not null;", []string{"select ';' = ';'", "select $$\n;x$$ is not null"}},
	}
	for _, tt := range tests {
		got, err := ParseChecks(tt.text)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, %v", tt.text, got, err)
		}
	}
	for text, reason := range map[string]string{
		"\\set x 1\nselect 1;": "line 1", "select 1;\n;\n": "line 2: a semicolon", "select\x00 1;": "zero byte",
	} {
		if got, err := ParseChecks(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func FuzzParseChecks(f *testing.F) {
	f.Add("select 1;\n-- x\nselect 2")
	f.Fuzz(func(t *testing.T, text string) {
		checks, err := ParseChecks(text)
		for _, c := range checks {
			if c == "" || err != nil || strings.TrimSpace(c) != c {
				t.Errorf("%q: %q, %v", text, c, err)
			}
		}
	})
}
