// Package shiptest has real stores for tests: an S3 server on loopback
// (VersityGW, https://github.com/versity/versitygw, over a directory), and a
// directory.
//
// The server is built once from its released module into the user's cache
// directory, which takes a minute or two.
package shiptest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"understudy/internal/archive/ship"
	"understudy/internal/freeport"
	"understudy/internal/wait"
)

const (
	module  = "github.com/versity/versitygw/cmd/versitygw"
	version = "v1.8.0"
	region  = "us-east-1"
)

// build returns the path of the server's program. Processes that want it at
// the same time wait for the first.
var build = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "understudy-test", "versitygw-"+version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "versitygw")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	tmp, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("go", "install", module+"@"+version)
	cmd.Dir = tmp // outside of any module
	cmd.Env = append(os.Environ(), "GOBIN="+tmp, "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s@%s: %w: %s", module, version, err, out)
	}
	return program, os.Rename(filepath.Join(tmp, "versitygw"), program)
})

// Server is a running S3 server.
type Server struct {
	Address   string // host:port
	AccessKey string
	SecretKey string

	dir     string
	program string
	cmd     *exec.Cmd
	out     *os.File
}

// Start starts a server with random keys; it ends with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	program, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{Address: freeport.For(tb), AccessKey: "A" + rand.Text()[:19], SecretKey: rand.Text(), dir: tb.TempDir(), program: program}
	if s.out, err = os.Create(filepath.Join(tb.TempDir(), "server.log")); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Kill(); s.out.Close() })
	s.Restart(tb)
	return s
}

// Restart starts the server again at its address, with what it had.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.cmd = exec.Command(s.program, "--port", s.Address, "--region", region, "--quiet", "posix", s.dir)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	wait.Until(tb, "the S3 server answers", func() error {
		resp, err := http.Get("http://" + s.Address + "/")
		if err != nil {
			text, _ := os.ReadFile(s.out.Name()) //nolint:errcheck // shown as it is
			return fmt.Errorf("%w: %s", err, text)
		}
		return resp.Body.Close()
	})
}

// Kill ends the server as kill -9 does. It may be called more than once.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill() //nolint:errcheck // it lives, or nothing is to be done
	s.cmd.Wait()         //nolint:errcheck // killed
	s.cmd = nil
}

// Bucket makes an empty bucket.
func (s *Server) Bucket(tb testing.TB) *Store {
	tb.Helper()
	name := "b-" + strings.ToLower(rand.Text())
	client := s3.New(s3.Options{Region: region, BaseEndpoint: aws.String("http://" + s.Address), UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}, nil
		})})
	if _, err := client.CreateBucket(tb.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		tb.Fatal(err)
	}
	uploads := func() int {
		list, err := client.ListMultipartUploads(context.WithoutCancel(tb.Context()), &s3.ListMultipartUploadsInput{Bucket: aws.String(name)})
		if err != nil {
			tb.Fatal(err)
		}
		return len(list.Uploads)
	}
	return &Store{Directory: filepath.Join(s.dir, name), Uploads: uploads, Stop: func() error { s.Kill(); return nil }, Start: s.Restart,
		Config: ship.Config{URL: "s3://" + name + "?endpoint=http://" + s.Address,
			CredentialsFile: Credentials(tb, s.AccessKey, s.SecretKey)}}
}

// Credentials writes a credentials file.
func Credentials(tb testing.TB, access, secret string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access, secret)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Store is an empty bucket of any kind.
type Store struct {
	Config    ship.Config
	Directory string     // where its objects are files, by their keys
	Uploads   func() int // how many are unfinished in the S3 server; nil for a directory
	Stop      func() error
	Start     func(tb testing.TB)
}

// Name is the bucket's.
func (s *Store) Name() string { return filepath.Base(s.Directory) }

// Directory makes a bucket that is a directory. Stopped, it is not there.
func Directory(tb testing.TB) *Store {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "bucket")
	if err := os.Mkdir(dir, 0o750); err != nil {
		tb.Fatal(err)
	}
	away := dir + ".away"
	return &Store{Config: ship.Config{URL: "file://" + dir}, Directory: dir,
		Stop: func() error { return os.Rename(dir, away) },
		Start: func(tb testing.TB) {
			tb.Helper()
			if err := os.Rename(away, dir); err != nil {
				tb.Fatal(err)
			}
		}}
}

// Each runs a test on a store of each kind.
func Each(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Helper()
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		test(t, Start(t).Bucket(t))
	})
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		test(t, Directory(t))
	})
}

// Open opens the bucket; it is closed with the test.
func (s *Store) Open(tb testing.TB) *ship.Bucket {
	tb.Helper()
	b, err := ship.NewBucket(s.Config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Error(err)
		}
	})
	return b
}
