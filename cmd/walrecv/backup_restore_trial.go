package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/walrecv/walrecv/storage"
)

const (
	// trialTime is how long the trial of a restore_command may take.
	trialTime = 30 * time.Second

	// trialRetry and trialRetryLocal are how long it may try to reach the archive: a
	// store may be slow, a directory is not.
	trialRetry      = 5 * time.Second
	trialRetryLocal = time.Second
)

// trialCommand is a restore_command that is tried.
type trialCommand struct {
	command string
	owner   *account // of the server; nil: who runs this
	path    string   // PATH of the server
	retry   time.Duration
}

// runTrial runs a restore_command as the server will: as its owner, and without
// anything of this environment. It asks for a file that no archive has.
func runTrial(ctx context.Context, t trialCommand) error {
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	command := strings.NewReplacer("%%", "%", "%f", trialFile, "%p", "/nonexistent/pg_wal/RECOVERYHISTORY").Replace(t.command)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir = "/" // no data directory, which could be a standby's: there all doubt is an absence
	cmd.Env = []string{"WALRECV_RETRY_FOR=" + t.retry.String(), "PATH=" + t.path}
	var said strings.Builder
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the shell, and what it runs
	if t.owner != nil {
		cmd.SysProcAttr.Credential = t.owner.credential()
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil
	}
	if text := lastWords(said.String()); text != "" {
		return errors.New(text)
	}
	return err
}

const trialFile = "FFFFFFFF.history"

// lastWords is what a restore_command has failed with: the end of what it said, without
// what the trial has put there. Of a file that may not be read nothing but that is told.
func lastWords(said string) string {
	lines := strings.FieldsFunc(said, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return ""
	}
	text := oneLine(lines[len(lines)-1])
	for _, lead := range []string{"walrecv: ", "restore " + trialFile + ": "} {
		text = strings.TrimPrefix(text, lead)
	}
	parts := strings.Split(text, ": ")
	if strings.HasPrefix(parts[0], "no answer within ") {
		parts = parts[1:]
	}
	if last := len(parts) - 1; last > 0 && parts[last] == syscall.EACCES.Error() {
		parts = parts[last-1:]
	}
	return strings.Join(parts, ": ")
}

// trying is the trial of a restore_command beside a restore.
type trying struct {
	stop context.CancelFunc
	done chan struct{}
	why  string // the restored server gets no WAL; empty: it does. Set before done.
}

// tryRestoreCommand warns of a restore_command that does not work for the server as
// it is. Its caller ends it.
func (a *app) tryRestoreCommand(ctx context.Context, command string, owner *account, location storage.Location, log *slog.Logger) *trying {
	ctx, stop := context.WithCancel(ctx)
	t := &trying{stop: stop, done: make(chan struct{})}
	if command == "" || a.trial == nil {
		close(t.done)
		return t
	}
	env := environment(a.environ)
	run := trialCommand{command: command, owner: owner, path: env["PATH"], retry: trialRetry}
	if location.Scheme == storage.SchemeFile {
		run.retry = trialRetryLocal
	}
	go func() {
		defer close(t.done)
		if err := a.trial(ctx, run); err != nil && ctx.Err() == nil {
			t.why = withAdvice(err, owner, location, secretVariables(location, env))
			log.Warn("the restored server will not get its WAL", "reason", t.why)
		}
	}()
	return t
}

// verdict waits for the end.
func (t *trying) verdict() string {
	<-t.done
	return t.why
}

// cancel ends it, if it has not ended.
func (t *trying) cancel() {
	t.stop()
	<-t.done
}

// withAdvice says what a restore_command failed with, and what can be done. set are
// variables that are set here and that it may need.
func withAdvice(err error, owner *account, location storage.Location, set []string) string {
	who := "with nothing of this environment the restore_command fails"
	if owner != nil {
		who = "for user " + owner.name + " the restore_command fails"
	}
	text := fmt.Sprintf("%s: %s", who, err)
	switch {
	case len(set) > 0:
		text += fmt.Sprintf("; give the server what gives access to the store: here %s are set", strings.Join(set, ", "))
	case owner == nil || !strings.HasSuffix(err.Error(), syscall.EACCES.Error()):
	case location.Scheme == storage.SchemeFile && strings.Contains(err.Error(), location.Path+"/") && rootOwns(location.Path):
		text += fmt.Sprintf("; run chown -R %s %s, which root can go on writing to", owner.name, location)
	default:
		text += "; let that user read it"
	}
	return text
}

// rootOwns tells whether a directory is root's: what root writes into another one belongs
// to that one's owner.
func rootOwns(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0
}
