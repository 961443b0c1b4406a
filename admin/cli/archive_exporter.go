package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/schollz/progressbar/v3"

	"understudy/internal/archive"
	"understudy/internal/archive/ship"
	"understudy/internal/store"
)

// exporter moves messages to a sink.
type exporter struct {
	env    *env
	reader ship.Reader
	sink   sink
	result exportResult
	detail string          // for the audit
	noted  map[string]bool // domains, in the audit
}

// put exports one record. An error is of the output.
func (x *exporter) put(rec *archive.Record) error {
	if err := x.sink.add(rec); err != nil {
		return err
	}
	x.result.Messages++
	x.result.Bytes += rec.Size
	return nil
}

// segments exports everything, oldest segment first.
func (x *exporter) segments() error {
	list, err := x.reader.Segments(x.env.ctx)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, seg := range list {
		total += seg.Size
	}
	bar := x.env.bar(total, "exporting", true)
	defer bar.Finish() //nolint:errcheck // only shows
	for _, seg := range list {
		if err := x.segment(seg, bar); err != nil {
			return err
		}
	}
	return nil
}

// segment exports what can be read of a segment, and what of that is damaged
// here from the bucket's copy.
func (x *exporter) segment(seg ship.Segment, bar *progressbar.ProgressBar) error {
	r, err := x.reader.OpenSegment(x.env.ctx, seg.Name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // expired meanwhile
	}
	if err != nil {
		return err
	}
	done := map[uuid.UUID]bool{}
	damaged, err := x.records(r, bar, done)
	if err != nil || damaged == 0 {
		return err
	}
	if seg.Shipped && seg.Path != "" {
		there, err := x.copyOf(seg, done)
		if errors.Is(err, errSink) || x.env.ctx.Err() != nil {
			return err
		}
		if err != nil { // what it lacks is not known: what is damaged here counts
			x.env.progress("the bucket's copy of %s, which is damaged here, cannot be read: %v", seg.Name, err)
		} else {
			damaged = there
		}
	}
	x.result.Unreadable += damaged
	return nil
}

// copyOf is records of the bucket's copy.
func (x *exporter) copyOf(seg ship.Segment, done map[uuid.UUID]bool) (damaged int64, err error) {
	r, err := x.reader.OpenShipped(x.env.ctx, seg.Name)
	if err != nil {
		return 0, err
	}
	return x.records(r, progressbar.NewOptions64(-1, progressbar.OptionSetVisibility(false)), done)
}

// errSink marks trouble with the output.
var errSink = errors.New("write")

// records exports the records of a segment that are not done yet, and says
// how many places of it are damaged.
func (x *exporter) records(r *archive.SegmentReader, bar *progressbar.ProgressBar, done map[uuid.UUID]bool) (damaged int64, err error) {
	defer r.Close()
	again := len(done) > 0
	for {
		if err := x.env.ctx.Err(); err != nil {
			return damaged, err
		}
		at, before := r.Offset(), r.Damaged()
		rec, err := r.Next()
		if r.Damaged() > before {
			damaged++
		}
		bar.Add64(r.Offset() - at) //nolint:errcheck // only shows
		var encrypted *archive.EncryptedError
		switch {
		case err == io.EOF:
			return damaged, nil
		case errors.As(err, &encrypted):
			if !done[encrypted.ID] {
				done[encrypted.ID] = true
				x.result.Encrypted++
			}
		case err != nil:
			return damaged, err
		case again && done[rec.ID]:
		default:
			done[rec.ID] = true
			if err := x.put(rec); err != nil {
				return damaged, fmt.Errorf("%w: %w", errSink, err)
			}
		}
	}
}

// found exports what a search finds, newest first.
func (x *exporter) found(s *store.Store, f store.MessageFilter) error {
	bar := x.env.bar(-1, "exporting", false)
	defer bar.Finish() //nolint:errcheck // only shows
	eyes := newEyes(s, f.Access)
	for {
		page, next, err := s.SearchMessages(x.env.ctx, f)
		if err != nil {
			return err
		}
		if err := x.note(s, f.Access, page); err != nil {
			return err
		}
		for _, m := range page {
			rec, err := x.reader.ReadRecord(x.env.ctx, archive.Ref{Segment: m.Segment, Offset: m.Offset, Length: m.Length})
			var bucket *ship.StoreError
			switch {
			case err == nil:
			case errors.Is(err, archive.ErrEncrypted):
				x.result.Encrypted++
				continue
			case errors.As(err, &bucket), x.env.ctx.Err() != nil: // so it would be with all that follow
				return err
			}
			if err != nil {
				x.result.Unreadable++
				x.env.progress("message %s cannot be read: %v", m.ID, err)
				continue
			}
			free, err := eyes.limit(x.env.ctx, rec, &m)
			if err == nil {
				err = x.put(rec)
			}
			if err := errors.Join(err, free(), rec.Close()); err != nil {
				return err
			}
			bar.Add(1) //nolint:errcheck // only shows
		}
		if next == nil {
			return nil
		}
		f.Cursor = *next
	}
}

// note writes into the audits of the domains whose messages these are that
// they are exported, once for each; what cannot be noted is not exported.
func (x *exporter) note(s *store.Store, a store.Access, page []store.MessageRow) error {
	domains, err := s.MessageDomains(x.env.ctx, page)
	if err != nil {
		return err
	}
	if x.noted == nil {
		x.noted = map[string]bool{}
	}
	var fresh []string
	for _, d := range domains {
		if !x.noted[d] && (a.All || slices.Contains(a.Domains, d) || strings.HasSuffix(a.Mailbox, "@"+d)) {
			x.noted[d], fresh = true, append(fresh, d)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return s.RecordExport(x.env.ctx, actor(), a.Mailbox, fresh, x.detail)
}

// noteAll notes an export of everything, for every domain. When the database
// is lost the archive must come out all the same.
func (x *exporter) noteAll(s *store.Store, err error) {
	var domains []string
	if err == nil {
		domains, err = s.ArchivedDomains(x.env.ctx)
	}
	if err == nil {
		err = s.RecordExport(x.env.ctx, actor(), "", domains, x.detail+" (everything)")
	}
	if err != nil {
		x.env.progress("this export is not noted in the audit: %v", err)
	}
}
