package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/walrecv/walrecv/internal/drill"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/internal/restore"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

const (
	// drillStop is how long a drill that is interrupted may take to clean up. What
	// it does not manage its watchdog does.
	drillStop = time.Minute
	// askTimeout is how long the server may take to say how far it is.
	askTimeout = 30 * time.Second
	// watchdogName is the command that outlives a drill which is killed.
	watchdogName = "drill-watchdog"
	// confinedName is the command that becomes the server.
	confinedName = "drill-server"
)

// runDrill is the work of "walrecv drill".
func (a *app) runDrill(parent context.Context, c drillConfig) error {
	ctx, done := interruptible(parent, drillStop, a.stderr, os.Exit)
	defer done()
	o, err := a.drillOptions(ctx, c)
	if err != nil {
		return err
	}
	page, err := openPage(c.html)
	if err != nil {
		return err
	}
	report, err := drill.Run(ctx, o)
	var setup *drill.SetupError
	switch {
	case errors.As(err, &setup):
		return usageError("%w", err)
	case err != nil:
		return unreadable(err)
	}
	return errors.Join(a.tellDrill(c, o, report, page), drillVerdict(report))
}

// tellDrill keeps the result in the archive, if it says anything about that, and
// prints it.
func (a *app) tellDrill(c drillConfig, o drill.Options, report *drill.Report, page *page) error {
	var kept error
	if report.Tells() {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		kept = drill.Keep(ctx, o.Archive, report)
	}
	var printed error
	if c.json {
		printed = writeJSON(a.stdout, report)
	} else {
		printed = report.Text(a.stdout)
	}
	return errors.Join(kept, printed, page.write(report))
}

// drillVerdict gives the exit code. What it is for was printed already.
func drillVerdict(report *drill.Report) error {
	if report.Success {
		return nil
	}
	return &codedError{exitUnsound, errors.New("")}
}

// drillOptions makes the options of a drill out of what was given.
func (a *app) drillOptions(ctx context.Context, c drillConfig) (drill.Options, error) {
	var o drill.Options
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	log := newLogger(a.stderr, slog.LevelInfo, environment(a.environ))
	if o.Target, err = c.target.target(); err != nil {
		return o, err
	}
	if o.Checks, err = c.allChecks(); err != nil {
		return o, err
	}
	if err := a.askServer(c, &o); err != nil {
		return o, err
	}
	arch, _, err := a.openToRead(ctx, c.archive.location, c.read)
	if err != nil {
		return o, unreadable(err)
	}
	if c.read.decryptWith != "" {
		if c.read.decryptWith, err = filepath.Abs(c.read.decryptWith); err != nil {
			return o, err
		}
	}
	env := environment(a.environ)
	if o.As, err = drill.FindAccount(c.archive.location.Path); err != nil {
		return o, usageError("%w", err)
	}
	if err := o.As.Need(ctx, secretsOf(c, arch.Identity().SystemID, self, env)...); err != nil {
		return o, usageError("%w", err)
	}
	o.Archive, o.Location, o.Log = arch, c.archive.location.String(), log
	o.BackupID, o.Pause, o.Random = c.target.backup, c.target.action == actionPause, c.random
	if o.Random {
		o.Seed = rand.Uint64()
	}
	o.BinDir, o.Path, o.TempDir, o.Environ = c.binDir, env["PATH"], os.TempDir(), a.environ
	o.Database = c.checkDatabase
	o.Watchdog, o.Confined = []string{self, watchdogName}, []string{self, confinedName}
	system := strconv.FormatUint(arch.Identity().SystemID, 10)
	o.RestoreCommand = func(dir string) string {
		args := []string{"--archive", c.archive.location.String(), "--system-id", system, "--prefetch-dir", filepath.Join(dir, prefetchBase)}
		if c.read.decryptWith != "" {
			args = append(args, "--decrypt-with", c.read.decryptWith)
		}
		return recovery.Command(self, args)
	}
	o.LayForks = func(ctx context.Context, dataDir string, p *recovery.Plan) error {
		options, err := a.laying(c.archive.location, c.read, dataDir, log)
		if err != nil {
			return err
		}
		return restore.LayForks(ctx, options, dataDir, routeOf(arch.Identity(), p))
	}
	return o, nil
}

// secretsOf are the files that restore_command has to read.
func secretsOf(c drillConfig, system uint64, self string, env map[string]string) []string {
	files := []string{self}
	add := func(path string) {
		if path != "" {
			files = append(files, path)
		}
	}
	add(c.read.decryptWith)
	if c.archive.location.Scheme != storage.SchemeS3 {
		add(c.archive.location.Path)
		add(filepath.Join(c.archive.location.Path, strconv.FormatUint(system, 10), "walrecv.json"))
		return files
	}
	add(c.archive.location.S3.CAFile)
	add(env["AWS_CA_BUNDLE"])
	add(env["AWS_WEB_IDENTITY_TOKEN_FILE"])
	for name, usual := range map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"} {
		if add(env[name]); env[name] == "" && env["HOME"] != "" {
			add(filepath.Join(env["HOME"], ".aws", usual))
		}
	}
	return files
}

// askServer lets the drill ask the server how far it is, if there is one to ask.
func (a *app) askServer(c drillConfig, o *drill.Options) error {
	env := environment(a.environ)
	if c.conn.dbname+c.conn.host+c.conn.port+c.conn.username+env["PGHOST"]+env["PGHOSTADDR"]+env["PGSERVICE"] == "" {
		return nil
	}
	conn, err := a.connection(c.conn, newLogger(a.stderr, slog.LevelInfo, env))
	if err != nil {
		return err
	}
	o.Server = func(ctx context.Context) (segment.TimelineID, segment.LSN, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		pg, err := receiver.Connect(ctx, conn)
		if err != nil {
			return 0, 0, err
		}
		defer pg.Close(context.WithoutCancel(ctx))
		server, err := receiver.Identify(ctx, pg)
		if err != nil {
			return 0, 0, err
		}
		if id := o.Archive.Identity().SystemID; server.SystemID != id {
			return 0, 0, errors.New("it is of another cluster, with the system identifier " + strconv.FormatUint(server.SystemID, 10))
		}
		return server.Timeline, server.End, nil
	}
	return nil
}

// page is the file of --html.
type page struct {
	path   string
	device bool // or a pipe: it is written to, and not replaced
}

// openPage finds out whether the page can be written, before hours of work.
func openPage(path string) (*page, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // none was asked for
	}
	info, err := os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err == nil && info.IsDir() {
		return nil, usageError("--html: %s is a directory; name a file", path)
	}
	if err == nil && !info.Mode().IsRegular() {
		return &page{path: path, device: true}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // for a web server, say
	if err == nil {
		err = f.Close()
	}
	if err == nil && missing {
		err = os.Remove(path)
	}
	if err != nil {
		return nil, usageError("--html: %w", err)
	}
	return &page{path: path}, nil
}

// write replaces the file by the page of a report.
func (p *page) write(report *drill.Report) error {
	if p == nil {
		return nil
	}
	var text strings.Builder
	if err := report.HTML(&text); err != nil {
		return err
	}
	if !p.device {
		return vfs.WriteFile(vfs.OS(), p.path, 0o644, []byte(text.String()))
	}
	f, err := os.OpenFile(p.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text.String())
	return errors.Join(err, f.Close())
}

// newDrillWatchdog declares the command that a drill runs beside itself.
func (a *app) newDrillWatchdog() *cobra.Command {
	return &cobra.Command{
		Use:                   watchdogName,
		Short:                 "Clean up after a drill that was killed; started by drill itself",
		Hidden:                true,
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: func(*cobra.Command, []string) error {
			// Whoever ends the drill so may well mean the whole group.
			signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
			return drill.Watch(os.Stdin)
		},
	}
}

// newDrillServer declares the command that becomes the server of a drill.
func (a *app) newDrillServer() *cobra.Command {
	return &cobra.Command{
		Use:                   confinedName,
		Short:                 "Run a program that can write into some directories only; started by drill itself",
		Hidden:                true,
		DisableFlagParsing:    true,
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			i := slices.Index(args, "--")
			if i < 0 || i == len(args)-1 {
				return usageError("walrecv drill runs this itself")
			}
			return drill.Become(args[:i], args[i+1:], a.environ)
		},
	}
}
