package drill

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// What the watchdog is told, one line each.
const (
	tellDir  = "dir "
	tellDone = "done"
)

// watchdog is this process's end of the pipe to a process that outlives it. The
// kernel closes the pipe however this process ends; that is all the watchdog waits
// for.
type watchdog struct {
	mu   sync.Mutex
	pipe *os.File
	cmd  *exec.Cmd
}

// startWatchdog runs the command line that calls [Watch].
func startWatchdog(command []string) (*watchdog, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	// No context ends it: it is there for what follows the end of all of them.
	cmd := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // this program
	cmd.Stdin = read                                                             // and nothing else that anybody could wait for
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, fmt.Errorf("start the process that would clean up if this one were killed: %w", err)
	}
	return &watchdog{pipe: write, cmd: cmd}, nil
}

// guard tells of a directory that has to go.
func (d *watchdog) guard(dir string) error { return d.tell(tellDir + dir) }

func (d *watchdog) tell(line string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := io.WriteString(d.pipe, line+"\n"); err != nil {
		return fmt.Errorf("the process that would clean up if this one were killed is gone: %w", err)
	}
	return nil
}

// dismiss ends it: there is nothing left to do.
func (d *watchdog) dismiss() error {
	err := d.tell(tellDone)
	return errors.Join(err, d.pipe.Close(), d.cmd.Wait())
}

// leave closes the pipe without a word, so that the watchdog does what could not be
// done here. It does not wait.
func (d *watchdog) leave() { _ = d.pipe.Close() }

// Watch is the watchdog: it reads from the process that it watches what there would
// be to clean up, and does that once the pipe ends without a good-bye. Its caller
// ignores the signals that end the other one.
func Watch(pipe io.Reader) error {
	var dirs []string
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if dir, ok := strings.CutPrefix(lines.Text(), tellDir); ok {
			dirs = append(dirs, dir)
		}
		if lines.Text() == tellDone {
			return nil
		}
	}
	return Clear(dirs) // also after an error: whoever wrote there is gone
}
