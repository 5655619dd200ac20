package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// reloadable are the options of a receiver that a configuration file which is read
// again changes. The others need a restart.
var reloadable = []string{
	"log-level", "verbose", "status-interval", "flush-interval", "tail-interval", "spool-max", "ready-lag",
}

// reloader reads the configuration of a receiver again at every SIGHUP. A nil one
// does nothing.
type reloader struct {
	app     *app
	path    string  // of the configuration file
	current options // as they count now
	level   *slog.LevelVar
	log     *slog.Logger

	hangup chan os.Signal
}

// newReloader catches SIGHUP from now on. Without a file there is nothing to read
// again. There SIGHUP keeps its meaning where it most likely says that the terminal is
// gone, which ends a receiver as it ends pg_receivewal.
func (a *app) newReloader(cmd *cobra.Command, log *slog.Logger) *reloader {
	r := &reloader{
		app: a, path: (&loader{cmd: cmd}).configPath(environment(a.environ)), current: optionValues(cmd),
		level: a.level, log: log, hangup: make(chan os.Signal, 1),
	}
	if r.path == "" && isTerminal(a.stderr) {
		return nil
	}
	signal.Notify(r.hangup, syscall.SIGHUP)
	return r
}

// close gives SIGHUP its default action again.
func (r *reloader) close() {
	if r != nil {
		signal.Stop(r.hangup)
	}
}

// follow applies what is read again, until the returned function is called.
func (r *reloader) follow(n *notifier, apply func(receiveConfig)) (stop func()) {
	if r == nil {
		return func() {}
	}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-r.hangup:
				n.reloading(func() { r.reload(apply) })
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		<-done
	}
}

// reload reads everything again, and applies what can be. If anything is wrong, all
// stays as it was.
func (r *reloader) reload(apply func(receiveConfig)) {
	c, read, err := r.read()
	if err != nil {
		r.log.Error("the configuration was not read again, and all settings stay as they were: correct it, and send SIGHUP once more", "error", oneLine(err.Error()))
		return
	}
	var changed, restart []string
	for _, name := range slices.Sorted(maps.Keys(read)) {
		switch old, value := r.current[name], read[name]; {
		case old == value:
		case slices.Contains(reloadable, name) && !turnsTail(name, old, value):
			changed = append(changed, fmt.Sprintf("%s: %s -> %s", name, old, value))
			r.current[name] = value
		default:
			restart = append(restart, name)
		}
	}
	if len(restart) > 0 {
		r.log.Warn("options have changed that a running receiver cannot change: restart it for these", "options", strings.Join(restart, ", "))
	}
	if len(changed) == 0 {
		r.log.Info("the configuration was read again: nothing has changed that can be", "file", r.path)
		return
	}
	if level := c.level(); level < r.level.Level() {
		r.level.Set(level)
	}
	r.log.Info("the configuration was read again", "file", r.path, "changed", strings.Join(changed, ", "))
	r.level.Set(c.level())
	apply(c)
}

// read is what the receiver would be told if it started now.
func (r *reloader) read() (c receiveConfig, values options, err error) {
	if r.path == "" {
		return c, nil, errors.New("there is no configuration file")
	}
	info, err := os.Stat(r.path)
	switch {
	case err != nil:
		return c, nil, err
	case !info.Mode().IsRegular():
		return c, nil, fmt.Errorf("%s is no file that can be read again", r.path)
	}
	dry := &app{args: r.app.args, environ: r.app.environ, stdout: io.Discard, stderr: io.Discard, dry: true}
	cmd := dry.receiveCommand(&c)
	root := dry.newBareRoot()
	root.AddCommand(cmd)
	root.SetArgs(dry.args)
	err = root.Execute()
	return c, optionValues(cmd), err
}

// turnsTail tells whether a change of --tail-interval turns the tail on or off.
func turnsTail(name, old, value string) bool {
	return name == "tail-interval" && (old == "0") != (value == "0")
}
