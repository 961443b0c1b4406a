package ship

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, file, err string }{
		{"", "", ""},
		{"", "/keys", "of no use"},
		{"s3://bucket", "", ""},
		{"s3://bucket/prefix?region=eu-west-1&dualstack=true", "/keys", ""},
		{"s3://bucket?endpoint=https://minio.example.org:9000&use_path_style=false", "", ""},
		{"s3://bucket?endpoint=minio.example.org", "", "write endpoint as"},
		{"s3://bucket?endpoint=https://key:sesame@minio.example.org", "", "write endpoint as"},
		{"s3://bucket?use_path_style=perhaps", "", "true or false"},
		{"s3://bucket?ssetype=x", "", `unknown parameter "ssetype"`},
		{"s3://key:sesame@bucket", "", "credentials_file"},
		{"s3://", "", "write it as"},
		{"file:///srv/bucket", "", ""},
		{"file://srv/bucket", "", "write it as"},
		{"file:///srv/bucket?create_dir=true", "", "write it as"},
		{"https://bucket.s3.amazonaws.com", "", "write it as"},
		{"s3://bucket?a=%zz", "", "cannot be read"},
		{"s3://key:sesame@[", "", "is no URL"},
	} {
		err := Config{URL: c.url, CredentialsFile: c.file}.Validate()
		if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "sesame")) {
			t.Errorf("%s: %v, want %q", c.url, err, c.err)
		}
	}
	if b, err := NewBucket(Config{}); b != nil || err != nil {
		t.Errorf("no bucket: %v, %v", b, err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	for _, c := range []struct{ text, want, err string }{
		{"[default]\naws_access_key_id = A\naws_secret_access_key=sesame=\n", "A sesame= ", ""},
		{"# a comment\r\n\r\naws_access_key_id=A\r\naws_secret_access_key=sesame\r\naws_session_token = t\r\n", "A sesame t", ""},
		{"[other]\naws_access_key_id = B\naws_secret_access_key=no\n[default]\naws_access_key_id=A\naws_secret_access_key=sesame\n", "A sesame ", ""},
		{"aws_access_key_id = A\n", "", "missing"},
		{"sesame\n", "", "line 1"},
		{strings.Repeat("#sesame\n", 10000), "", "too large"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readCredentials(path)
		if c.err != "" {
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "sesame") {
				t.Errorf("%.40q: %v", c.text, err)
			}
		} else if text := got.AccessKeyID + " " + got.SecretAccessKey + " " + got.SessionToken; err != nil || text != c.want {
			t.Errorf("%.40q: %q, %v", c.text, text, err)
		}
	}
}
