package password

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/sync/semaphore"
)

// ErrBusy means that too many verifications are waiting, or that the wait was
// too long. Nothing is known of the password: answer with a temporary failure.
var ErrBusy = errors.New("too many password verifications at once")

// MaxWait is the longest that a verification waits for its turn. Dovecot's
// side of the connection gives up after 5 s (see the Lua script), and a reply
// must reach it before.
const MaxWait = 4 * time.Second

// Verifier bounds the memory and the processors that verifications take. The
// first that came is the first served.
type Verifier struct {
	slots   *semaphore.Weighted
	queue   int64
	waiting atomic.Int64
	running atomic.Int64
}

// NewVerifier lets concurrency computations run at once, each with 19 MiB,
// and queue more wait. Zero takes the number of processors, and 256.
func NewVerifier(concurrency, queue int) *Verifier {
	if concurrency <= 0 {
		concurrency = runtime.GOMAXPROCS(0)
	}
	if queue <= 0 {
		queue = 256
	}
	return &Verifier{slots: semaphore.NewWeighted(int64(concurrency)), queue: int64(queue)}
}

// Waiting is the number of callers that wait for their turn.
func (v *Verifier) Waiting() int { return int(v.waiting.Load()) }

// Running is the number of computations under way.
func (v *Verifier) Running() int { return int(v.running.Load()) }

// Do runs f when it is its turn, and returns f's error, or ErrBusy. f may
// verify several hashes; it should look at its context between two.
func (v *Verifier) Do(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, MaxWait)
	defer cancel()
	if !v.slots.TryAcquire(1) {
		if v.waiting.Add(1) > v.queue {
			v.waiting.Add(-1)
			return ErrBusy
		}
		err := v.slots.Acquire(ctx, 1)
		v.waiting.Add(-1)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBusy, err)
		}
	}
	defer v.slots.Release(1)
	v.running.Add(1)
	defer v.running.Add(-1)
	return f(ctx)
}

// Verify is Verify in its turn.
func (v *Verifier) Verify(ctx context.Context, hash, password string) (ok bool, err error) {
	err = v.Do(ctx, func(context.Context) error {
		ok, err = Verify(hash, password)
		return err
	})
	return ok, err
}

// unknownHash is a hash in the form of mainParams that no known password has.
const unknownHash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// Waste does the work of verifying a password that must fail: for a name
// that does not exist, so that the time taken does not tell.
func Waste(password string) {
	if len(password) > MaxLength {
		password = password[:MaxLength]
	}
	argon2id.ComparePasswordAndHash(password, unknownHash) //nolint:errcheck // only its cost matters
}
