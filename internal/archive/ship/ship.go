// Package ship keeps sealed segments of the archive in a bucket: a store that
// speaks S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/), or a
// directory, through gocloud.dev/blob. docs/shipping.md is for operators.
//
// A bucket has the layout of an archive's directory without open/: objects
// YYYY-MM-DD/NAME, byte for byte the sealed segments. What the bucket lists is
// the truth; nothing else is needed to read it.
//
// Reader reads records and segments from wherever they are, local first. When
// the bucket is down, local segments are read as ever, and what is only in the
// bucket is an error within the deadline of the operation.
package ship

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/aws/smithy-go"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"

	"understudy/internal/archive"
)

var (
	// ErrRefused is the store's word on our credentials.
	ErrRefused = errors.New("the archive bucket refuses the credentials")
	// ErrCorrupt is returned when what the bucket holds is not what was sent.
	ErrCorrupt = errors.New("the archive bucket's copy differs")
)

// Config says where the bucket is. An empty URL: there is none.
type Config struct {
	URL             string `yaml:"url"`              // s3://BUCKET[/PREFIX][?endpoint=...] or file:///DIRECTORY
	CredentialsFile string `yaml:"credentials_file"` // for s3, in the format of ~/.aws/credentials; empty: the environment's or the machine's
}

// Validate checks the form of the values; it connects nowhere.
func (c Config) Validate() error {
	if c.URL == "" {
		if c.CredentialsFile != "" {
			return errors.New("archive_bucket.credentials_file: is of no use without archive_bucket.url")
		}
		return nil
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil: // not shown: there may be a password in it
		return errors.New("archive_bucket.url: is no URL")
	case u.User != nil:
		return errors.New("archive_bucket.url: put the keys into archive_bucket.credentials_file")
	case u.Scheme == "s3" && u.Host != "":
		_, err := parseS3(u)
		return err
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) && u.RawQuery == "":
		return nil
	}
	return errors.New("archive_bucket.url: write it as s3://BUCKET?region=REGION or file:///DIRECTORY")
}

// Bucket is where segments are shipped to. Its methods may be called from
// many goroutines. Errors are fs.ErrNotExist for an object that is not there
// (in a bucket that is), ErrRefused, or the store's.
type Bucket struct {
	config Config
	url    *url.URL

	mu     sync.Mutex
	opened *blob.Bucket // nil: not yet, or its directory was not there
}

// NewBucket prepares a bucket; it connects nowhere yet, so that a store that
// is down holds up nobody. It returns nil when c names none.
func NewBucket(c Config) (*Bucket, error) {
	if err := c.Validate(); err != nil || c.URL == "" {
		return nil, err
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	return &Bucket{config: c, url: u}, nil
}

// directory is where a bucket that is a directory lies, "" for others.
func (b *Bucket) directory() string {
	if b.url.Scheme == "file" {
		return filepath.Clean(b.url.Path)
	}
	return ""
}

// open returns the driver's bucket.
func (b *Bucket) open(ctx context.Context) (*blob.Bucket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	dir := b.directory()
	if dir != "" { // the driver would make it: on the wrong disk, when what should be mounted is not
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("open archive bucket: %w", unmounted(err))
		}
	}
	if b.opened != nil {
		return b.opened, nil
	}
	var err error
	if dir != "" {
		b.opened, err = fileblob.OpenBucket(dir, &fileblob.Options{Metadata: fileblob.MetadataDontWrite, NoTempDir: true, DirFileMode: dirMode})
	} else {
		b.opened, err = openS3(ctx, b.url, b.config.CredentialsFile)
	}
	if err != nil {
		return nil, fmt.Errorf("open archive bucket: %w", err)
	}
	return b.opened, nil
}

// unmounted keeps a missing directory from passing for a missing segment.
func unmounted(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}

// Close frees what the bucket holds.
func (b *Bucket) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened == nil {
		return nil
	}
	opened := b.opened
	b.opened = nil
	return opened.Close()
}

// key is a segment's in the bucket.
func key(segment string) (string, error) {
	path, err := archive.SealedName(segment)
	return filepath.ToSlash(path), err
}

// wrap names the errors that callers tell apart. A 404 says nothing about
// the object when the whole bucket is missing.
func (b *Bucket) wrap(ctx context.Context, doing, segment string, err error) error {
	if err == nil {
		return nil
	}
	var api smithy.APIError
	if errors.As(err, &api) && refusals[api.ErrorCode()] {
		return fmt.Errorf("%s %s: %w (%s)", doing, segment, ErrRefused, api.ErrorCode())
	}
	switch gcerrors.Code(err) {
	case gcerrors.PermissionDenied:
		return fmt.Errorf("%s %s: %w: %w", doing, segment, ErrRefused, err)
	case gcerrors.NotFound:
		opened, err := b.open(ctx)
		if err != nil {
			return err
		}
		there, err := opened.IsAccessible(ctx)
		switch {
		case err != nil: // never NotFound: this ends here
			return b.wrap(ctx, doing, segment, err)
		case there:
			return fmt.Errorf("%s %s: not in the archive bucket: %w", doing, segment, fs.ErrNotExist)
		}
		return fmt.Errorf("%s %s: there is no such archive bucket", doing, segment)
	}
	return fmt.Errorf("%s %s: archive bucket: %w", doing, segment, err)
}

// refusals are the S3 error codes that no trying again mends
// (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
// A HEAD request has no body and so no code but its status: Forbidden.
var refusals = map[string]bool{"AccessDenied": true, "InvalidAccessKeyId": true, "SignatureDoesNotMatch": true, "ExpiredToken": true,
	"InvalidToken": true, "AccountProblem": true, "AllAccessDisabled": true, "Forbidden": true, "Unauthorized": true,
	"XAdminUserNotFound": true} // VersityGW's InvalidAccessKeyId

// clean makes a prefix of a URL's path.
func clean(path string) string {
	if path = strings.Trim(path, "/"); path != "" {
		path += "/"
	}
	return path
}
