package cli

import (
	"archive/tar"
	"errors"
	"io"
	"os"

	"understudy/internal/archive"
	"understudy/internal/mbox"
)

// sink takes exported messages.
type sink interface {
	add(*archive.Record) error
	close() error
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// synced is a file that is on the disk when it is closed.
type synced struct{ *os.File }

func (s synced) Close() error { return errors.Join(s.Sync(), s.File.Close()) }

func newSink(format string, w io.WriteCloser) sink {
	if format == "mbox" {
		return mboxSink{mbox.NewWriter(w), w}
	}
	return tarSink{tar.NewWriter(w), w}
}

type tarSink struct {
	*tar.Writer
	file io.Closer
}

func (t tarSink) add(r *archive.Record) error {
	h, err := archive.TarHeader(&r.Envelope, r.Size)
	if err == nil {
		err = t.WriteHeader(h)
	}
	if err == nil {
		_, err = io.Copy(t.Writer, r.Body)
	}
	return err
}

func (t tarSink) close() error { return errors.Join(t.Writer.Close(), t.file.Close()) }

type mboxSink struct {
	*mbox.Writer
	file io.Closer
}

func (m mboxSink) add(r *archive.Record) error { return m.Add(r.Sender, r.Received, r.Body) }
func (m mboxSink) close() error                { return errors.Join(m.Flush(), m.file.Close()) }

type maildirSink struct{ *mbox.Maildir }

func (m maildirSink) add(r *archive.Record) error {
	return m.Add(r.ID.String(), r.Received, r.Size, r.Body)
}
func (maildirSink) close() error { return nil }
