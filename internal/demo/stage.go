package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// serverUser is the account that everything runs as when root shows the
// demonstration: PostgreSQL refuses to run as root.
const serverUser = "postgres"

// toolWithin is how long a program may take that is waited for. A commit that
// waits for walrecv for ever must not hold up the end.
const toolWithin = time.Minute

// stage is the place of the demonstration: its directory, the user that its
// programs run as, and the watchdog.
type stage struct {
	dir   string
	owner *syscall.Credential // nil: programs run as the user of the demonstration
	dog   *watchdog
}

// newStage makes the directory. The caller closes the stage.
func newStage() (*stage, error) {
	if _, err := os.Stat("/proc/self/cwd"); err != nil {
		return nil, fmt.Errorf("the demonstration needs Linux: %w", err)
	}
	s := &stage{}
	if os.Geteuid() == 0 {
		owner, err := credentialOf(serverUser)
		if err != nil {
			return nil, fmt.Errorf("servers refuse to run as root, and there is no user %s: %w", serverUser, err)
		}
		s.owner = owner
	}
	dir, err := os.MkdirTemp(s.base(), "walrecv-demo-")
	if err != nil {
		return nil, err
	}
	s.dir = dir
	s.dog, err = startWatchdog(dir)
	if err == nil {
		// Others may pass through, to what is open to them, and list nothing.
		err = os.Chmod(dir, 0o711)
	}
	if err == nil {
		err = s.mkdir("home")
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close ends and removes everything.
func (s *stage) close() error {
	err := sweep(s.dir)
	if s.dog != nil {
		err = errors.Join(err, s.dog.dismiss())
	}
	return err
}

func credentialOf(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// plain are the paths that need no quoting, neither in a shell nor in a
// configuration file, and are short enough for sockets below them (107 bytes).
var plain = regexp.MustCompile(`^/[A-Za-z0-9/._-]{0,60}$`)

// base is the system's directory for temporary files, unless its path is a
// difficult one or closed to the user of the servers.
func (s *stage) base() string {
	base, err := filepath.EvalSymlinks(os.TempDir())
	if err != nil || !plain.MatchString(base) || !s.reaches(base) {
		return "/tmp"
	}
	return base
}

// reaches tells whether the user of the servers may pass through every directory
// of a path that is free of symbolic links.
func (s *stage) reaches(path string) bool {
	if s.owner == nil {
		return true
	}
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	needed := os.FileMode(0o001)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid == s.owner.Uid {
		needed = 0o100
	}
	return info.Mode().Perm()&needed != 0 && (path == "/" || s.reaches(filepath.Dir(path)))
}

// path names something in the directory.
func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// mkdir makes a directory for the programs' own files.
func (s *stage) mkdir(name string) error {
	if err := os.Mkdir(s.path(name), 0o700); err != nil {
		return err
	}
	return s.give(s.path(name))
}

// write writes a file that belongs to the user of the servers.
func (s *stage) write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return s.give(path)
}

// appendTo adds to a file.
func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (s *stage) give(path string) error {
	if s.owner == nil {
		return nil
	}
	return os.Lchown(path, int(s.owner.Uid), int(s.owner.Gid))
}

// install copies a program to where the user of the servers can run it.
func (s *stage) install(program, name string) (string, error) {
	in, err := os.Open(program)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(s.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	return out.Name(), errors.Join(err, out.Chmod(0o755), out.Close())
}

// command prepares a program that runs as the user of the servers, in the
// directory, and with nothing of the environment that could lead it elsewhere.
func (s *stage) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = s.path("home")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "TMPDIR=" + cmd.Dir,
		"LANG=C", "TZ=UTC", "AWS_EC2_METADATA_DISABLED=true",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.owner}
	cmd.WaitDelay = time.Second // its children end with the stage
	return cmd
}

// tool runs a program to its end, with more in its environment.
func (s *stage) tool(ctx context.Context, env []string, program string, args ...string) error {
	name := filepath.Base(program)
	ctx, cancel := context.WithTimeoutCause(ctx, toolWithin, fmt.Errorf("%s did not end within %v", name, toolWithin))
	defer cancel()
	cmd := s.command(ctx, program, args...)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w:\n%s", name, err, lastLines(out, 5))
	}
	return nil
}
