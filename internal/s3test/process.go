package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a running server.
type process struct {
	bin      string // versitygw
	dir      string // of its own
	endpoint string
	keys     Keys
	hold     *os.File // the server ends when nobody holds this any more
}

// What is in its directory.
const (
	dataDir = "data"
	iamDir  = "iam"
	logFile = "log"
)

// keeper starts the server and ends it, with its directory, when its standard
// input ends: the kernel closes that pipe however the test process ends. There
// is no moment at which the server runs and nobody would end it.
const keeper = `trap '' HUP INT TERM
dir=$1; shift
"$@" </dev/null >"$dir/log" 2>&1 &
while read -r _; do :; done
kill -9 $! 2>/dev/null
wait
rm -rf "$dir"`

// startWithin is how long a server may take until it answers.
const startWithin = time.Minute

func startServer() (*process, error) {
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	for range 5 {
		p, err := start(bin)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
	return nil, errors.New("found no port for versitygw")
}

func binary() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the tests do not run inside the module")
		}
		dir = filepath.Dir(dir)
	}
	bin := filepath.Join(dir, "build", "bin", "versitygw")
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("%w; run tools/need versitygw", err)
	}
	return bin, nil
}

// base is where the server keeps objects: in memory if there is room.
func base() string {
	const enough = 4 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &fs); err == nil && fs.Bavail*uint64(fs.Bsize) >= enough {
		return "/dev/shm"
	}
	return os.TempDir()
}

func start(bin string) (*process, error) {
	dir, err := os.MkdirTemp(base(), "wr-s3-")
	if err != nil {
		return nil, err
	}
	p := &process{bin: bin, dir: dir, keys: Keys{"root" + rand.Text(), rand.Text()}}
	if err := p.run(); err != nil {
		if p.hold != nil {
			p.hold.Close() // and so the server ends
		} else {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return nil, err
	}
	return p, nil
}

func (p *process) run() error {
	for _, sub := range []string{dataDir, iamDir} {
		if err := os.Mkdir(filepath.Join(p.dir, sub), 0o700); err != nil {
			return err
		}
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	p.endpoint = "http://" + address
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", keeper, "keeper", p.dir, p.bin, "--quiet", "--keep-alive", "--port", address,
		"--region", Region, "--iam-dir", filepath.Join(p.dir, iamDir), "--iam-cache-disable",
		"posix", filepath.Join(p.dir, dataDir))
	cmd.Stdin = read
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + p.dir,
		"ROOT_ACCESS_KEY=" + p.keys.Access, "ROOT_SECRET_KEY=" + p.keys.Secret,
	}
	// A session of its own: what ends the tests from a terminal must not end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		write.Close()
		return fmt.Errorf("start of versitygw: %w", err)
	}
	p.hold = write
	return p.answers()
}

// freeAddress is one that was free a moment ago.
func freeAddress() (string, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// answers waits until this very server answers: nobody else knows its keys.
func (p *process) answers() error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	err := request(context.Background(), p.endpoint, p.keys, http.MethodGet, "/", nil)
	for end := time.Now().Add(startWithin); err != nil && time.Now().Before(end); {
		<-tick.C
		err = request(context.Background(), p.endpoint, p.keys, http.MethodGet, "/", nil)
	}
	if err == nil {
		return nil
	}
	log, _ := os.ReadFile(filepath.Join(p.dir, logFile))
	return fmt.Errorf("versitygw does not answer: %w\n%.2000s", errors.Join(err, inUse(log)), log)
}

// inUse tells whether somebody else was quicker to take the port.
func inUse(log []byte) error {
	if bytes.Contains(log, []byte("address already in use")) {
		return syscall.EADDRINUSE
	}
	return nil
}

func payloadHash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
