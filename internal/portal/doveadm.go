package portal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	statusBatch  = 50       // mailboxes asked for in one request: about 5 ms each, 9 the first time
	maxReplySize = 64 << 20 // of doveadm, in bytes: a listing takes about 120 a message
)

// Entry is one message in an INBOX.
type Entry struct {
	UID     uint32
	GUID    string // survives moves, copies and the loss of indexes
	Size    int64  // with CRLF line ends, in bytes
	Deleted bool   // flagged \Deleted
}

// Listing is what lies in an INBOX.
type Listing struct {
	UIDValidity uint32
	Entries     []Entry // oldest first (by UID)
}

// exitUnknownUser is EX_NOUSER of sysexits.h.
const exitUnknownUser = 67

// Counts tells how many messages lie in the INBOX of each mailbox. One that
// was never used has none, and is not made by asking. Mailboxes that Dovecot
// cannot open now are missing from the answer; an error means that nothing is
// known.
func (c *Client) Counts(ctx context.Context, mailboxes []string) (map[string]int, error) {
	out := make(map[string]int, len(mailboxes))
	for batch := range slices.Chunk(mailboxes, statusBatch) {
		// When it cannot be known, all are asked: a home too many is no harm,
		// mail that is missed is.
		unused, _ := c.unused(ctx, batch)
		var ask []string
		var commands []command
		for _, m := range batch {
			if unused[m] {
				out[m] = 0
				continue
			}
			ask = append(ask, m)
			commands = append(commands, statusOf(m))
		}
		replies, err := c.doveadm(ctx, commands)
		if err != nil {
			return nil, fmt.Errorf("ask for the state of portal mailboxes: %w", err)
		}
		for i, r := range replies {
			if s, err := r.status(); err == nil {
				out[ask[i]] = s.messages
				c.used.add(ask[i])
			}
		}
	}
	return out, nil
}

// List tells what lies in the INBOX of a mailbox.
func (c *Client) List(ctx context.Context, mailbox string) (Listing, error) {
	replies, err := c.doveadm(ctx, []command{
		// First: INBOX must be the same before and after to be believed.
		statusOf(mailbox),
		{"fetch", map[string]any{"user": mailbox, "field": []string{"uid", "guid", "size.virtual", "flags"}, "query": []string{"mailbox", "INBOX"}}, ""},
		statusOf(mailbox),
	})
	if err != nil {
		return Listing{}, fmt.Errorf("list INBOX of %s: %w", mailbox, err)
	}
	before, err1 := replies[0].status()
	after, err2 := replies[2].status()
	entries, err3 := replies[1].entries()
	if err := errors.Join(err1, err2, err3); err != nil {
		return Listing{}, fmt.Errorf("list INBOX of %s: %w", mailbox, err)
	}
	if before.uidValidity != after.uidValidity {
		return Listing{}, fmt.Errorf("list INBOX of %s: %w", mailbox, ErrRenumbered)
	}
	return Listing{UIDValidity: before.uidValidity, Entries: entries}, nil
}

// command is [name, parameters, tag].
type command [3]any

func statusOf(mailbox string) command {
	return command{"mailboxStatus", map[string]any{"user": mailbox, "field": []string{"messages", "uidvalidity"}, "mailboxMask": []string{"INBOX"}}, ""}
}

// reply is what doveadm answered to one command.
type reply struct {
	rows []map[string]string
	err  error
}

// doveadm sends commands in one request and returns as many replies.
func (c *Client) doveadm(ctx context.Context, commands []command) ([]reply, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	for i := range commands {
		commands[i][2] = strconv.Itoa(i)
	}
	body, err := json.Marshal(commands)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.DoveadmURL+"/doveadm/v1", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", c.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("doveadm answered %s", resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReplySize))
	if err != nil {
		return nil, err
	}
	return parseReplies(text, len(commands))
}

// parseReplies reads [[type, payload, tag], ...], one for each of n commands.
func parseReplies(text []byte, n int) ([]reply, error) {
	var all [][]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("doveadm's answer: %w", err)
	}
	out := make([]reply, n)
	for i := range out {
		out[i].err = errors.New("doveadm did not answer")
	}
	for _, r := range all {
		var kind, tag string
		if len(r) != 3 || json.Unmarshal(r[0], &kind) != nil || json.Unmarshal(r[2], &tag) != nil {
			return nil, errors.New("doveadm's answer: want [type, payload, tag]")
		}
		i, err := strconv.Atoi(tag)
		if err != nil || i < 0 || i >= n {
			return nil, fmt.Errorf("doveadm's answer: unknown tag %.20q", tag)
		}
		out[i] = reply{}
		if kind != "doveadmResponse" {
			out[i].err = commandError(r[1])
		} else if err := json.Unmarshal(r[1], &out[i].rows); err != nil {
			out[i].err = fmt.Errorf("doveadm's answer: %w", err)
		}
	}
	return out, nil
}

func commandError(payload json.RawMessage) error {
	var e struct {
		Type     string `json:"type"`
		ExitCode int    `json:"exitCode"`
	}
	if json.Unmarshal(payload, &e) == nil && e.ExitCode == exitUnknownUser {
		return errors.New("doveadm: no such mailbox")
	}
	return fmt.Errorf("doveadm: %.40s, exit code %d", e.Type, e.ExitCode)
}

type status struct {
	messages    int
	uidValidity uint32
}

// status reads a reply to mailboxStatus. A mailbox that is missing gives an
// empty success, which is an error here.
func (r reply) status() (status, error) {
	if r.err != nil {
		return status{}, r.err
	}
	if len(r.rows) != 1 {
		return status{}, errors.New("doveadm: there is no INBOX")
	}
	n, err1 := strconv.ParseUint(r.rows[0]["messages"], 10, 31)
	v, err2 := strconv.ParseUint(r.rows[0]["uidvalidity"], 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return status{}, fmt.Errorf("doveadm's mailbox status: %w", err)
	}
	return status{int(n), uint32(v)}, nil
}

func (r reply) entries() ([]Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	out := make([]Entry, 0, len(r.rows))
	for _, row := range r.rows {
		uid, err1 := strconv.ParseUint(row["uid"], 10, 32)
		size, err2 := strconv.ParseInt(row["size.virtual"], 10, 64)
		if err := errors.Join(err1, err2); err != nil || row["guid"] == "" {
			return nil, fmt.Errorf("doveadm's listing: message without uid, guid or size: %w", err)
		}
		deleted := slices.Contains(strings.Fields(row["flags"]), `\Deleted`)
		out = append(out, Entry{UID: uint32(uid), GUID: row["guid"], Size: size, Deleted: deleted})
	}
	slices.SortFunc(out, func(a, b Entry) int { return int(int64(a.UID) - int64(b.UID)) })
	return out, nil
}
