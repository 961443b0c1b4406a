package portal

import (
	"context"
	"errors"
	"path"
	"sync"
)

// used remembers which mailboxes have an INBOX, which stays, and how this
// Dovecot lists directories.
type used struct {
	mu       sync.Mutex
	seen     map[string]bool // mailboxes
	iterDirs func(path string) command
}

func (u *used) has(mailbox string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[mailbox]
}

func (u *used) add(mailbox string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen == nil {
		u.seen = map[string]bool{}
	}
	u.seen[mailbox] = true
}

// iterDirs23 and iterDirs24 name the directories in a directory (doveadm-fs(1)),
// none when that does not exist. 2.4 wants "fs posix { }" in its configuration.
func iterDirs23(path string) command {
	return command{"fsIterDirs", map[string]any{"fsDriver": "posix", "fsArgs": "", "path": path}, ""}
}

func iterDirs24(path string) command {
	return command{"fsIterDirs", map[string]any{"filterName": "", "path": path}, ""}
}

// unused returns which of the mailboxes have no INBOX yet for sure. Nothing
// else that doveadm has would tell: to ask for a mailbox's state, or to search
// it, makes it. An error means that nothing is known.
func (c *Client) unused(ctx context.Context, mailboxes []string) (map[string]bool, error) {
	var ask []string
	var commands []command
	for _, m := range mailboxes {
		if !c.used.has(m) {
			ask = append(ask, m)
			// Where INBOX would be: a directory below that of all its versions.
			commands = append(commands, command{"mailboxPath", map[string]any{"user": m, "mailbox": []string{"INBOX"}}, ""})
		}
	}
	if len(ask) == 0 {
		return nil, nil
	}
	iterDirs, err := c.lister(ctx)
	if err != nil {
		return nil, err
	}
	replies, err := c.doveadm(ctx, commands)
	if err != nil {
		return nil, err
	}
	var found []string
	commands = commands[:0]
	for i, r := range replies {
		if r.err == nil && len(r.rows) == 1 && path.IsAbs(r.rows[0]["path"]) {
			found = append(found, ask[i])
			commands = append(commands, iterDirs(path.Dir(r.rows[0]["path"])))
		}
	}
	if replies, err = c.doveadm(ctx, commands); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for i, r := range replies {
		if r.err == nil && len(r.rows) == 0 {
			out[found[i]] = true
		}
	}
	return out, nil
}

// lister finds out in which words this Dovecot lists directories.
func (c *Client) lister(ctx context.Context) (func(string) command, error) {
	c.used.mu.Lock()
	defer c.used.mu.Unlock()
	if c.used.iterDirs != nil {
		return c.used.iterDirs, nil
	}
	for _, f := range []func(string) command{iterDirs23, iterDirs24} {
		replies, err := c.doveadm(ctx, []command{f("/")})
		if err != nil {
			return nil, err
		}
		if replies[0].err == nil {
			c.used.iterDirs = f
			return f, nil
		}
	}
	return nil, errors.New("doveadm lists no directories")
}
