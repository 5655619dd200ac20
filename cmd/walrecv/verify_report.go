package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// writeVerifyText prints a report for people: one line for each finding, and one
// that sums up.
func writeVerifyText(w io.Writer, r *verify.Report, took time.Duration) error {
	var b strings.Builder
	for _, list := range []struct {
		word  string
		found []verify.Finding
	}{{"notice", r.Notices}, {"not checked", r.Unread}, {"not sound", r.Findings}} {
		for _, f := range list.found {
			fmt.Fprintf(&b, "%s: %s\n", list.word, oneLine(findingText(f)))
		}
	}
	b.WriteString(verifySummary(r, took) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// findingText is a finding: which object, where, what it is, and what to do.
func findingText(f verify.Finding) string {
	text := f.Object
	if f.LSN != 0 && text != "" {
		text += " (" + f.LSN.String() + ")"
	} else if f.LSN != 0 {
		text = f.LSN.String()
	}
	if text != "" {
		text += ": "
	}
	text += f.Message
	if f.Advice != "" {
		text += "; " + f.Advice
	}
	return text
}

func verifySummary(r *verify.Report, took time.Duration) string {
	var b strings.Builder
	switch {
	case !r.Sound() && r.Complete():
		fmt.Fprintf(&b, "not sound (%s): ", counted(int64(len(r.Findings)), "finding"))
	case !r.Sound():
		fmt.Fprintf(&b, "not sound (%s), and not all could be checked: ", counted(int64(len(r.Findings)), "finding"))
	case !r.Complete():
		b.WriteString("not all could be checked: ")
	default:
		b.WriteString("sound: ")
	}
	fmt.Fprintf(&b, "%s, ", counted(int64(r.Segments), "segment"))
	if r.Partials > 0 {
		fmt.Fprintf(&b, "%s, ", counted(int64(r.Partials), "partial"))
	}
	if r.Chunks > 0 {
		fmt.Fprintf(&b, "%s of the tail, ", counted(int64(r.Chunks), "piece"))
	}
	if r.Backups > 0 {
		fmt.Fprintf(&b, "%s, ", counted(int64(r.Backups), "base backup"))
	}
	read := int64(0)
	for _, t := range r.Timelines {
		if t.Read {
			read++
		}
	}
	fmt.Fprintf(&b, "%s on %s", roughSize(r.Bytes), counted(read, "timeline"))
	if r.Deep {
		fmt.Fprintf(&b, ", %s", counted(r.Records, "record"))
	}
	if r.Unchecked > 0 {
		fmt.Fprintf(&b, ", %s of records not checked", roughSize(r.Unchecked))
	}
	if r.Since != 0 {
		fmt.Fprintf(&b, ", since %s", r.Since)
	}
	fmt.Fprintf(&b, ", in %s", took.Round(time.Millisecond))
	return b.String()
}

func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatInt(n, 10) + " " + what + "s"
}

// The document that --json prints. docs/verify.md describes it; members are never
// removed and never change their meaning.
type verifyJSON struct {
	Archive   string         `json:"archive"`
	SystemID  string         `json:"system_identifier"`
	Size      int64          `json:"wal_segment_size"`
	Major     int            `json:"postgresql_major"`
	Sound     bool           `json:"sound"`
	Complete  bool           `json:"complete"`
	Deep      bool           `json:"deep"`
	Since     segment.LSN    `json:"since_lsn,omitzero"`
	Timelines []timelineJSON `json:"timelines"`
	Segments  int            `json:"segments"`
	Partials  int            `json:"partials"`
	Chunks    int            `json:"chunks"`
	Backups   int            `json:"backups"`
	Objects   int            `json:"backup_objects"`
	Bytes     int64          `json:"bytes"`
	Records   int64          `json:"records"`
	Unchecked int64          `json:"unchecked_bytes"`
	Seconds   float64        `json:"duration_seconds"`
	Findings  []findingJSON  `json:"findings"`
	Unread    []findingJSON  `json:"not_checked"`
	Notices   []findingJSON  `json:"notices"`
}

type timelineJSON struct {
	Timeline uint32      `json:"timeline"`
	Parent   uint32      `json:"parent_timeline,omitempty"`
	Fork     segment.LSN `json:"fork_lsn,omitzero"`
	Start    segment.LSN `json:"start_lsn,omitzero"`
	End      segment.LSN `json:"end_lsn,omitzero"`
	Segments uint64      `json:"segments"`
	Partials int         `json:"partials"`
	Tail     segment.LSN `json:"tail_end_lsn,omitzero"`
}

type findingJSON struct {
	Kind     verify.Kind `json:"kind"`
	Object   string      `json:"object,omitempty"`
	Timeline uint32      `json:"timeline,omitempty"`
	LSN      segment.LSN `json:"lsn,omitzero"`
	End      segment.LSN `json:"end_lsn,omitzero"`
	Message  string      `json:"message"`
	Advice   string      `json:"advice,omitempty"`
}

func writeVerifyJSON(w io.Writer, location storage.Location, r *verify.Report, took time.Duration) error {
	doc := verifyJSON{
		Archive: location.String(), SystemID: strconv.FormatUint(r.SystemID, 10), Size: int64(r.SegmentSize), Major: r.Major,
		Sound: r.Sound(), Complete: r.Complete(), Deep: r.Deep, Since: r.Since,
		Timelines: []timelineJSON{}, Segments: r.Segments, Partials: r.Partials, Chunks: r.Chunks, Backups: r.Backups, Objects: r.Objects,
		Bytes: r.Bytes, Records: r.Records, Unchecked: r.Unchecked, Seconds: took.Seconds(),
		Findings: findingsJSON(r.Findings), Unread: findingsJSON(r.Unread), Notices: findingsJSON(r.Notices),
	}
	for _, t := range r.Timelines {
		doc.Timelines = append(doc.Timelines, timelineJSON{
			Timeline: uint32(t.ID), Parent: uint32(t.Parent), Fork: t.Fork, Start: t.Start, End: t.End,
			Segments: t.Segments, Partials: t.Partials, Tail: t.Tail,
		})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

func findingsJSON(list []verify.Finding) []findingJSON {
	out := []findingJSON{} // never null
	for _, f := range list {
		out = append(out, findingJSON{
			Kind: f.Kind, Object: f.Object, Timeline: uint32(f.Timeline), LSN: f.LSN, End: f.End, Message: f.Message, Advice: f.Advice,
		})
	}
	return out
}
