package ship_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"understudy/internal/archive/shiptest"
)

const uploadBytes = 40 << 20 // five parts

// TestUnfinishedUploads: an upload that breaks off leaves no parts in the
// store, and the next one drops those of an upload that was killed.
func TestUnfinishedUploads(t *testing.T) {
	t.Parallel()
	server := shiptest.Start(t)
	s := server.Bucket(t)
	r := newRig(t, s, 1000)
	none := func(when string) {
		t.Helper()
		if n := s.Uploads(); n != 0 {
			t.Errorf("%s: %d unfinished uploads are in the store", when, n)
		}
	}
	broken := errors.New("disk")
	in := io.MultiReader(bytes.NewReader(make([]byte, 30<<20)), readerFunc(func([]byte) (int, error) { return 0, broken }))
	if err := r.bucket.Put(t.Context(), r.segment.Name, in, uploadBytes); !errors.Is(err, broken) {
		t.Errorf("a broken disk: %v", err)
	}
	none("after a broken disk")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in = io.MultiReader(bytes.NewReader(make([]byte, 30<<20)), readerFunc(func(p []byte) (int, error) {
		for deadline := time.Now().Add(30 * time.Second); s.Uploads() == 0 && time.Now().Before(deadline); {
			<-time.After(5 * time.Millisecond)
		}
		cancel() // the worker ends in the middle
		return len(p), nil
	}))
	if err := r.bucket.Put(ctx, r.segment.Name, in, uploadBytes); err == nil {
		t.Error("cancelled, and no error")
	}
	none("after the end of the worker")

	killed := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://" + server.Address), UsePathStyle: true, HTTPClient: http.DefaultClient,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}, nil
		})})
	name := s.Name()
	k := r.segment.Name[:4] + "-" + r.segment.Name[4:6] + "-" + r.segment.Name[6:8] + "/" + r.segment.Name
	for _, key := range []string{k, k + ".other"} {
		if _, err := killed.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &name, Key: &key}); err != nil {
			t.Fatal(err)
		}
	}
	r.put(t)
	if n := s.Uploads(); n != 1 { // another object's is another's
		t.Errorf("%d unfinished uploads after a segment was sent anew, want 1", n)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
