package account

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"understudy/internal/directory"
)

const (
	cacheTTL = time.Minute
	cacheMax = 20_000
)

// fingerprinter makes keyed fingerprints of an account and a password. The
// key is random and lives as long as the process, so that neither the memory
// of another process nor a file can be searched for a password.
type fingerprinter struct{ key [32]byte }

func newFingerprinter() fingerprinter {
	var f fingerprinter
	rand.Read(f.key[:]) // never fails, see its documentation
	return f
}

func (f *fingerprinter) of(account, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, f.key[:])
	h.Write([]byte(account))
	h.Write([]byte{0})
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

// edition tells one state of a mailbox's credentials from another: any change
// of a row brings a higher version, any deletion a lower count.
type edition struct {
	count  int
	newest int64
}

func editionOf(creds []*directory.Credential) edition {
	e := edition{count: len(creds)}
	for _, c := range creds {
		e.newest = max(e.newest, c.Version)
	}
	return e
}

// cache remembers for a short time what a verification found, right or wrong:
// webmail logs in for every page, and a device with an old password tries it
// without end. An entry holds for the edition of the credentials it was made
// from, so a changed password takes effect at once.
type cache struct {
	now     func() time.Time
	mu      sync.Mutex
	entries map[[sha256.Size]byte]*list.Element
	order   *list.List // the newest in front
}

type cacheEntry struct {
	key     [sha256.Size]byte
	edition edition
	ok      bool
	expires time.Time
}

func newCache(now func() time.Time) *cache {
	return &cache{now: now, entries: map[[sha256.Size]byte]*list.Element{}, order: list.New()}
}

// get returns what is known; found is false if nothing is.
func (c *cache) get(key [sha256.Size]byte, e edition) (ok, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.entries[key]
	if el == nil {
		return false, false
	}
	x := el.Value.(*cacheEntry)
	if x.edition != e || !c.now().Before(x.expires) {
		c.drop(el)
		return false, false
	}
	return x.ok, true
}

func (c *cache) put(key [sha256.Size]byte, e edition, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.entries[key]; el != nil {
		c.drop(el)
	}
	for el := c.order.Back(); el != nil; el = c.order.Back() {
		if c.now().Before(el.Value.(*cacheEntry).expires) && len(c.entries) < cacheMax {
			break
		}
		c.drop(el)
	}
	c.entries[key] = c.order.PushFront(&cacheEntry{key: key, edition: e, ok: ok, expires: c.now().Add(cacheTTL)})
}

func (c *cache) drop(el *list.Element) {
	delete(c.entries, el.Value.(*cacheEntry).key)
	c.order.Remove(el)
}
