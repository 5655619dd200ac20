package main

import (
	"strings"
	"testing"
)

// A shell is offered commands, options and the values that an option can have, and file
// names only where they stand for something.
func TestCompletion(t *testing.T) {
	const noFiles, files, directories, noSpace = ":4", ":0", ":16", ":2"
	for line, want := range map[string]string{
		"rec|":                         "receive " + noFiles,
		"slot |":                       "create drop show " + noFiles,
		"receive --ack |":              "flush archive " + noFiles,
		"receive --ack=|":              "flush archive " + noFiles,
		"backup create --checkpoint |": "fast spread " + noFiles,
		"receive -Z |":                 "none gzip lz4 zstd " + noFiles,
		"receive --tail-int|":          "--tail-interval " + noFiles,
		"receive --slot |":             noFiles,
		"receive |":                    noFiles,
		"receive -D |":                 directories,
		"receive --archive |":          "s3:// / " + noSpace,
		"--config |":                   files,
		"receive --config |":           files,
		"restore --decrypt-with |":     files,
		"push |":                       files,
	} {
		text, _ := strings.CutSuffix(line, "|")
		words := strings.Split(text, " ")
		o := walrecv(nil, append([]string{"__completeNoDesc"}, words...)...)
		if got := strings.Join(strings.Fields(o.stdout), " "); o.code != exitDone || got != want {
			t.Errorf("%s: exit %d, %q, want %q", line, o.code, got, want)
		}
	}
	if o := walrecv(nil, "__complete", "receive", "--archi"); !strings.HasPrefix(o.stdout, "--archive\tthe archive's URL: ") {
		t.Errorf("what an option is for: %q", o.stdout)
	}
}
