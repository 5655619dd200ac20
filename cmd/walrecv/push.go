package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/push"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// pushConfig is all that "walrecv push" was told.
type pushConfig struct {
	archive          archiveOptions
	encrypt          encryptOptions
	acceptBranch     bool
	allowUnsafeStore bool
	path             string // %p
	scratch          string // directory
}

// newPush declares the command; a.push is what it does.
func (a *app) newPush() *cobra.Command {
	var cfg pushConfig
	cmd := &cobra.Command{
		Use:   "push [OPTION]... %p",
		Short: "Archive a file of pg_wal: PostgreSQL's archive_command",
		Long: `Archives one segment, .partial, .history or .backup file, and ends with 0 only once
the archive durably holds it:

  0  archived, or the archive holds the same already
  1  not archived: the store gives no answer, or the file is not complete
  2  wrong usage or configuration
  4  another cluster or branch, or another content in the archive, or one that is
     encrypted under another digest key

In postgresql.conf:

  archive_command = 'walrecv push --config FILE %p'`,
		Example:               "  walrecv push --archive /srv/wal %p",
		DisableFlagsInUseLine: true,
		Args:                  arguments("%p"),
		RunE: a.configured(cfg.check, func(cmd *cobra.Command, args []string) error {
			cfg.path = args[0]
			cfg.scratch = scratchDirectory(environment(a.environ))
			a.worked = true
			return a.push(cmd.Context(), cfg, a.stderr)
		}),
	}
	addCommonOptions(cmd)
	addPushOptions(cmd.Flags(), &cfg)
	return cmd
}

func addPushOptions(fs *pflag.FlagSet, c *pushConfig) {
	addArchiveOptions(fs, &c.archive)
	addEncryptOptions(fs, &c.encrypt)
	addAcceptBranch(fs, &c.acceptBranch)
	addUnsafeStore(fs, &c.allowUnsafeStore)
}

func (c *pushConfig) check() error {
	if err := c.archive.required("nothing to archive into"); err != nil {
		return err
	}
	return c.encrypt.check(c.archive)
}

// scratchDirectory is where files go that nobody needs after the process.
func scratchDirectory(env map[string]string) string {
	if dir := env["TMPDIR"]; dir != "" {
		return dir
	}
	return "/tmp"
}

// runPush is the work of "walrecv push".
func (a *app) runPush(ctx context.Context, c pushConfig, stderr io.Writer) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	encryption, err := c.encrypt.encryption()
	if err != nil {
		return err
	}
	err = push.Run(ctx, push.Options{
		FS:       vfs.OS(),
		Path:     c.path,
		WorkDir:  dir,
		Location: c.archive.location.String(),
		Open: func(ctx context.Context) (storage.Store, error) {
			store, err := openStore(ctx, c.archive.location, a.environ, storeOptions{unsafe: c.allowUnsafeStore})
			if err != nil {
				return nil, err
			}
			return storage.WithDeadline(store), nil
		},
		Mountable:    c.archive.location.Scheme == storage.SchemeFile,
		Keys:         archive.Keys{Encryption: encryption},
		Unsafe:       c.allowUnsafeStore,
		Scratch:      c.scratch,
		AcceptBranch: c.acceptBranch,
		Logger:       plainLogger(stderr),
	})
	switch {
	case errors.Is(err, push.ErrNotWAL):
		return usageError("%w", err)
	case errors.Is(err, storage.ErrUnsafe):
		return fmt.Errorf("%w: use another store, or --allow-unsafe-store if nobody else ever writes there", err)
	}
	return err
}

// pushExitCode is exitCode for "push": what push does not promise is a failure that
// PostgreSQL meets with another try.
func pushExitCode(err error) int {
	switch code := exitCode(err); code {
	case exitDone, exitUsage, exitWrong:
		return code
	}
	return exitFailed
}
