package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// stopWithin is how long a server may take to stop in order: what it has in
	// memory has to be written.
	stopWithin = 5 * time.Minute
	// logWithin is how long to wait for the end of the log of a server that has
	// ended: what it has begun may hold it open.
	logWithin = 2 * time.Second
)

// server is a running server.
type server struct {
	cmd     *exec.Cmd
	log     *serverLog
	started time.Time
	done    chan struct{} // closed when it has ended
}

// startServer starts the server of a drill. confined is the beginning of the command
// line that calls [Become] with what follows: directories, "--" and a command.
func startServer(p *place, programs Programs, confined, environ []string) (*server, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	s := &server{log: newServerLog(), done: make(chan struct{}), started: time.Now()}
	command := append(slices.Clone(confined), p.dirs()...)
	command = append(command, "--", programs.Postgres, "-D", p.data(), "-c", "config_file="+p.file(confFile))
	if ownProgram != "" {
		command[0] = ownProgram
	}
	// No context ends it: it is to be stopped in its own ways.
	s.cmd = exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // programs of the user's choice
	s.cmd.Dir = p.data()                                                          // from its first moment on it can be found there
	s.cmd.Env = environ
	s.cmd.Stdout, s.cmd.Stderr = write, write
	s.cmd.SysProcAttr = p.as.attributes(true)
	if err := s.cmd.Start(); err != nil {
		read.Close()
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		s.log.read(read)
		read.Close()
	}()
	go func() {
		_ = s.cmd.Wait() // the result is in ProcessState
		close(s.done)
	}()
	return s, nil
}

// Environ is what a server sees of the environment. The receiver's own settings are
// no business of restore_command here, which has to show what the archive alone can
// do; and libpq's would lead elsewhere.
func serverEnviron(environ []string) []string {
	kept := slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		return strings.HasPrefix(pair, "WALRECV_") || strings.HasPrefix(pair, "PG") || strings.HasPrefix(pair, "LC_") ||
			strings.HasPrefix(pair, "LANG=") || strings.HasPrefix(pair, "LANGUAGE=") || strings.HasPrefix(pair, "TZ=")
	})
	return append(kept, "LC_ALL=C", "TZ=UTC")
}

// ended tells whether the server has ended.
func (s *server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// how says how the server ended.
func (s *server) how() string {
	status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return "was ended by signal " + fmt.Sprint(int(status.Signal()))
	}
	return "ended with " + fmt.Sprint(s.cmd.ProcessState.ExitCode())
}

// awaitLog waits for what an ended server has written.
func (s *server) awaitLog() {
	timer := time.NewTimer(logWithin)
	defer timer.Stop()
	select {
	case <-s.log.ended:
	case <-timer.C:
	}
}

// stop ends the server in order, so that its files are whole.
func (s *server) stop(ctx context.Context) error {
	if err := s.signal(syscall.SIGINT); err != nil {
		return err
	}
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("the server did not stop within %v", stopWithin)
	}
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("the server %s when it was to stop", s.how())
	}
	return nil
}

// halt ends the server at once; nobody needs its files any more.
func (s *server) halt() {
	if s.signal(syscall.SIGQUIT) != nil {
		return
	}
	timer := time.NewTimer(endWithin)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C: // Clear is not as patient
	}
}

// signal sends a signal to the server. One that has ended is no error.
func (s *server) signal(sig os.Signal) error {
	err := s.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Why a server's recovery was given up.
var (
	errServerEnded = errors.New("the server ended")
	errStalled     = errors.New("no progress")
	errShort       = errors.New("settings are too small")
	errFull        = errors.New("no room on the disk")
)

// follow waits until reached says that a state of the server's recovery is what was
// waited for. The server has to get on: without a sign of it for stall, that is
// errStalled.
func (s *server) follow(ctx context.Context, stall time.Duration, reached func(replay) bool) (replay, error) {
	timer := time.NewTimer(stall)
	defer timer.Stop()
	for {
		ended := s.ended() // before the log is looked at: then it is whole
		if ended {
			s.awaitLog()
		}
		seen := s.log.state()
		switch {
		case reached(seen) && !ended:
			return seen, nil
		case seen.Full:
			return seen, errFull
		case s.tooSmall(seen):
			return seen, errShort
		case ended:
			return seen, errServerEnded
		}
		select {
		case <-s.log.changed:
			timer.Reset(stall)
		case <-s.done:
		case <-timer.C:
			return seen, errStalled
		case <-ctx.Done():
			return seen, context.Cause(ctx)
		}
	}
}

// tooSmall tells whether the server cannot go on with the sizes that it was given.
func (s *server) tooSmall(seen replay) bool { return len(seen.Short) > 0 && seen.Ready.IsZero() }
