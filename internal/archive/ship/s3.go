package ship

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	gcaws "gocloud.dev/aws"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
)

const (
	credentialsLife = 5 * time.Minute // then the file is read again: keys change without a restart
	maxCredentials  = 64 << 10        // bytes of the file
)

// s3Options are what an s3 URL says beside what gocloud.dev/aws reads.
type s3Options struct {
	pathStyle bool
	query     url.Values
}

// parseS3 reads the query of an s3 URL and fills in what stores other than
// Amazon's want: a region of any name, and the bucket in the path.
func parseS3(u *url.URL) (s3Options, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return s3Options{}, errors.New("archive_bucket.url: its query cannot be read")
	}
	o := s3Options{pathStyle: q.Has("endpoint"), query: q}
	if q.Has("endpoint") {
		e, err := url.Parse(q.Get("endpoint"))
		if err != nil || e.Scheme != "https" && e.Scheme != "http" || e.Host == "" || e.User != nil {
			return o, errors.New("archive_bucket.url: write endpoint as https://HOST[:PORT]")
		}
		if !q.Has("region") {
			q.Set("region", "us-east-1")
		}
	}
	if q.Has("use_path_style") {
		if o.pathStyle, err = strconv.ParseBool(q.Get("use_path_style")); err != nil {
			return o, errors.New("archive_bucket.url: use_path_style is true or false")
		}
		q.Del("use_path_style")
	}
	// We compare every byte ourselves, and many stores do not know the newer
	// checksums of the protocol.
	for _, key := range []string{"request_checksum_calculation", "response_checksum_validation"} {
		if !q.Has(key) {
			q.Set(key, "when_required")
		}
	}
	for key := range q {
		switch key {
		case "endpoint", "region", "dualstack", "fips", "request_checksum_calculation", "response_checksum_validation":
		default:
			return o, fmt.Errorf("archive_bucket.url: unknown parameter %q", key)
		}
	}
	return o, nil
}

// openS3 makes the client; the store is not asked yet.
func openS3(ctx context.Context, u *url.URL, credentialsFile string) (*blob.Bucket, error) {
	o, err := parseS3(u)
	if err != nil {
		return nil, err
	}
	cfg, err := gcaws.V2ConfigFromURLParams(ctx, o.query)
	if err != nil {
		return nil, err
	}
	if credentialsFile != "" {
		cfg.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return readCredentials(credentialsFile)
		}))
	}
	client := s3.NewFromConfig(cfg, func(s *s3.Options) { s.UsePathStyle = o.pathStyle })
	opened, err := s3blob.OpenBucket(ctx, client, u.Host, &s3blob.Options{RequestChecksumCalculation: cfg.RequestChecksumCalculation})
	if err != nil {
		return nil, err
	}
	if prefix := clean(u.Path); prefix != "" {
		opened = blob.PrefixedBucket(opened, prefix)
	}
	return opened, nil
}

// abortUploads has an S3 store drop the parts of unfinished uploads of an
// object: nobody else uploads it, and a list of objects never shows them.
// Where the store refuses or does not know that, its lifecycle rule is left.
func (b *Bucket) abortUploads(ctx context.Context, opened *blob.Bucket, k string) {
	var client *s3.Client
	if !opened.As(&client) {
		return
	}
	bucket, name := aws.String(b.url.Host), aws.String(clean(b.url.Path)+k)
	list, err := client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket, Prefix: name})
	if err != nil {
		return
	}
	for _, u := range list.Uploads {
		if aws.ToString(u.Key) == *name {
			client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: name, UploadId: u.UploadId}) //nolint:errcheck // as above
		}
	}
}

// readCredentials reads the default profile of a file as ~/.aws/credentials
// (https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html).
// Its errors never show what is in the file.
func readCredentials(path string) (aws.Credentials, error) {
	refuse := func(why string) (aws.Credentials, error) {
		return aws.Credentials{}, fmt.Errorf("%w: credentials file %s: %s", ErrRefused, path, why)
	}
	f, err := os.Open(path)
	if err != nil {
		return refuse(err.Error()) // not wrapped: a missing file is no missing segment
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxCredentials {
		return refuse("is too large, or cannot be read")
	}
	c := aws.Credentials{Source: path, CanExpire: true, Expires: time.Now().Add(credentialsLife)}
	section := "default"
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.TrimSpace(line[1 : len(line)-1])
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return refuse(fmt.Sprintf("line %d is not KEY = VALUE", n))
		}
		if section != "default" {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			c.AccessKeyID = value
		case "aws_secret_access_key":
			c.SecretAccessKey = value
		case "aws_session_token":
			c.SessionToken = value
		}
	}
	if err := lines.Err(); err != nil {
		return refuse(err.Error())
	}
	if c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return refuse("aws_access_key_id or aws_secret_access_key is missing")
	}
	return c, nil
}
