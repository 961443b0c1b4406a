package cli

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"understudy/internal/address"
	"understudy/internal/password"
	"understudy/internal/store"
)

// The bounds of one import: a larger directory is imported in parts.
const (
	maxImportBytes = 64 << 20
	maxImportRows  = 200_000
	maxImportShown = 50 // errors
)

// importRow is one line of an import file.
type importRow struct {
	line     int // where it begins, from 1
	address  address.Address
	name     string
	password string
	covered  bool
}

// parseImport reads a CSV file (RFC 4180; comma or semicolon): the columns
// address, name, password, covered, of which only the first must be there. A
// first line that names the columns may order them otherwise. It returns all
// that is wrong, each error with its line.
func parseImport(in io.Reader) ([]importRow, error) {
	text, err := io.ReadAll(io.LimitReader(in, maxImportBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read import file: %w", err)
	}
	if len(text) > maxImportBytes {
		return nil, fmt.Errorf("the file is larger than %d MiB; import it in parts", maxImportBytes>>20)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // what spreadsheets put first
	if !utf8.Valid(text) {
		return nil, errors.New("the file is not in UTF-8; save it as \"CSV UTF-8\"")
	}
	r := csv.NewReader(bufio.NewReader(bytes.NewReader(text)))
	r.FieldsPerRecord = -1
	first, _, _ := bytes.Cut(text, []byte("\n"))
	if bytes.ContainsRune(first, ';') && !bytes.ContainsRune(first, ',') {
		r.Comma = ';'
	}
	p := importParser{columns: importColumns, seen: map[string]int{}}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // names the line itself; what follows cannot be trusted
			p.errs = append(p.errs, err)
			break
		}
		line, _ := r.FieldPos(0)
		p.record(line, record)
	}
	if len(p.rows) == 0 && len(p.errs) == 0 {
		return nil, errors.New("the file has no mailboxes")
	}
	return p.rows, joinShown(p.errs)
}

var importColumns = []string{"address", "name", "password", "covered"}

type importParser struct {
	columns []string
	begun   bool // a record was seen
	rows    []importRow
	errs    []error
	seen    map[string]int // canonical address to line
}

func (p *importParser) fail(line int, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("line %d: "+format, append([]any{line}, args...)...))
}

func (p *importParser) record(line int, cells []string) {
	if !p.begun {
		p.begun = true
		if p.head(line, cells) {
			return
		}
	}
	if len(p.rows) >= maxImportRows {
		if len(p.rows) == maxImportRows && !slices.ContainsFunc(p.errs, func(e error) bool { return errors.Is(e, errTooManyRows) }) {
			p.errs = append(p.errs, errTooManyRows)
		}
		return
	}
	if len(cells) > len(p.columns) {
		p.fail(line, "%d columns; there are %s", len(cells), strings.Join(p.columns, ", "))
		return
	}
	row := importRow{line: line, covered: true}
	for i, cell := range cells {
		if err := row.set(p.columns[i], strings.TrimSpace(cell)); err != nil {
			p.fail(line, "%w", err)
			return
		}
	}
	if row.address.IsZero() {
		p.fail(line, "the address is missing")
		return
	}
	canonical := row.address.String()
	if before, twice := p.seen[canonical]; twice {
		p.fail(line, "%s is on line %d already", canonical, before)
		return
	}
	p.seen[canonical] = line
	p.rows = append(p.rows, row)
}

var errTooManyRows = fmt.Errorf("more than %d mailboxes; import the file in parts", maxImportRows)

// head takes the first line as column names when its first cell is one.
func (p *importParser) head(line int, cells []string) bool {
	names := make([]string, len(cells))
	for i, c := range cells {
		names[i] = strings.ToLower(strings.TrimSpace(c))
	}
	if !slices.Contains(importColumns, names[0]) {
		return false
	}
	for i, n := range names {
		if !slices.Contains(importColumns, n) || slices.Contains(names[:i], n) {
			p.fail(line, "column %q; the columns are %s, each once", n, strings.Join(importColumns, ", "))
		}
	}
	if !slices.Contains(names, "address") {
		p.fail(line, "no column is named address")
	}
	p.columns = names
	return true
}

func (row *importRow) set(column, cell string) (err error) {
	switch column {
	case "address":
		row.address, err = address.Parse(cell)
		if row.address.Detail != "" {
			err = fmt.Errorf("%s: leave out \"+%s\"", cell, row.address.Detail)
		}
	case "name":
		row.name = cell
	case "password":
		if row.password = cell; cell != "" {
			err = password.Check(cell)
		}
	case "covered":
		switch strings.ToLower(cell) {
		case "", "yes", "true", "1":
			row.covered = true
		case "no", "false", "0":
			row.covered = false
		default:
			err = fmt.Errorf("covered is %q; write yes or no", cell)
		}
	}
	return err
}

func joinShown(errs []error) error {
	if more := len(errs) - maxImportShown; more > 0 {
		errs = append(slices.Clone(errs[:maxImportShown]), fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

type mailboxImport struct {
	File   string `arg:"" help:"CSV file: address, name, password, covered; \"-\" is standard input."`
	DryRun bool   `help:"Check everything, change nothing."`
}

// Run imports all mailboxes of a file, or none and says why.
func (c *mailboxImport) Run(e *env) error {
	in := e.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	rows, err := parseImport(in)
	if err != nil {
		return fmt.Errorf("%s: nothing was imported:\n%w", c.File, err)
	}
	s, err := e.openUnbounded()
	if err != nil {
		return err
	}
	if err := checkImport(e, s, rows); err != nil {
		return fmt.Errorf("%s: nothing was imported:\n%w", c.File, err)
	}
	result := struct {
		Mailboxes int  `json:"mailboxes"`
		DryRun    bool `json:"dry_run"`
	}{len(rows), c.DryRun}
	if c.DryRun {
		return e.print(result, "%d mailboxes could be imported; nothing was changed", len(rows))
	}
	boxes, err := hashImport(e, rows)
	if err != nil {
		return err
	}
	if err := s.AddMailboxes(e.ctx, boxes...); err != nil {
		return fmt.Errorf("nothing was imported: %w", err)
	}
	return e.print(result, "%d mailboxes imported", len(rows))
}

// checkImport compares the rows with the directory.
func checkImport(e *env, s *store.Store, rows []importRow) error {
	addresses, domains := make([]string, len(rows)), map[string]bool{}
	for i, r := range rows {
		addresses[i] = r.address.String()
		domains[r.address.Domain] = true
	}
	var names []string
	for d := range domains {
		names = append(names, d)
	}
	missing, err := s.MissingDomains(e.ctx, names)
	if err != nil {
		return err
	}
	taken, err := s.TakenAddresses(e.ctx, addresses)
	if err != nil {
		return err
	}
	var errs []error
	for i, r := range rows {
		if slices.Contains(missing, r.address.Domain) {
			errs = append(errs, fmt.Errorf("line %d: there is no domain %s here; add it first: domain add", r.line, r.address.Domain))
		}
		if _, found := slices.BinarySearch(taken, addresses[i]); found {
			errs = append(errs, fmt.Errorf("line %d: %s is a mailbox or an alias already", r.line, addresses[i]))
		}
	}
	return joinShown(errs)
}

// hashImport hashes the passwords on all processors: some 20 ms each.
func hashImport(e *env, rows []importRow) ([]store.NewMailbox, error) {
	boxes := make([]store.NewMailbox, len(rows))
	var hashed atomic.Int64
	g, ctx := errgroup.WithContext(e.ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, r := range rows {
		boxes[i] = store.NewMailbox{Address: r.address.String(), Name: r.name, Covered: r.covered}
		if r.password == "" {
			continue
		}
		g.Go(func() (err error) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			boxes[i].Hash, err = password.Hash(r.password)
			if n := hashed.Add(1); n%500 == 0 {
				e.progress("%d passwords hashed, of at most %d", n, len(rows))
			}
			return err
		})
	}
	return boxes, g.Wait()
}
