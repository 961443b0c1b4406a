package limit

import (
	"runtime"
	"testing"
	"time"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestRate plays senders: at each time so many recipients are tried.
func TestRate(t *testing.T) {
	t.Parallel()
	type try struct {
		at       time.Duration
		n, taken int
		last     Answer
	}
	hour := Rate{PerHour: 60, Burst: 10}
	for name, tt := range map[string]struct {
		rate  Rate
		tries []try
	}{
		"burst, then the rate": {hour, []try{
			{0, 12, 10, Answer{Wait: time.Minute}},
			{30 * time.Second, 1, 0, Answer{Wait: 30 * time.Second}},
			{time.Minute, 2, 1, Answer{Wait: time.Minute}},
			{6 * time.Minute, 10, 5, Answer{Wait: time.Minute}},
			{10 * time.Hour, 12, 10, Answer{Wait: time.Minute}},
		}},
		"day": {Rate{PerDay: 5}, []try{
			{0, 3, 3, Answer{OK: true}},
			{23 * time.Hour, 4, 2, Answer{DayOver: true, Wait: time.Hour}},
			{24 * time.Hour, 6, 5, Answer{DayOver: true, Wait: 24 * time.Hour}},
		}},
		"both, the day counts what was taken only": {Rate{PerHour: 60, Burst: 10, PerDay: 12}, []try{
			{0, 50, 10, Answer{Wait: time.Minute}},
			{time.Hour, 9, 2, Answer{DayOver: true, Wait: 23 * time.Hour}},
		}},
		"no limit":                {Rate{}, []try{{0, 5000, 5000, Answer{OK: true}}}},
		"the clock steps back":    {hour, []try{{time.Hour, 10, 10, Answer{OK: true}}, {0, 1, 0, Answer{Wait: time.Minute}}}},
		"more than once a second": {Rate{PerHour: 7200, Burst: 1}, []try{{0, 2, 1, Answer{Wait: time.Second / 2}}, {time.Second / 2, 1, 1, Answer{OK: true}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := New()
			for _, try := range tt.tries {
				taken := 0
				var last Answer
				for range try.n {
					if last = l.Take(Key{Mailbox, 1}, tt.rate, begin.Add(try.at)); last.OK {
						taken++
					}
				}
				last.Wait = last.Wait.Round(time.Millisecond)
				if taken != try.taken || last != try.last {
					t.Errorf("at %v: took %d of %d, last %+v; want %d, %+v", try.at, taken, try.n, last, try.taken, try.last)
				}
			}
		})
	}
}

func TestSendersDoNotShare(t *testing.T) {
	t.Parallel()
	l, r := New(), Rate{PerHour: 60, Burst: 1}
	for _, k := range []Key{{Mailbox, 1}, {Mailbox, 2}, {Account, 1}, {Network, 1}} {
		if !l.Take(k, r, begin).OK || l.Take(k, r, begin).OK {
			t.Errorf("%v has not its own limit", k)
		}
	}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	r := Rate{PerHour: 200, Burst: 100, PerDay: 1000}
	for _, tt := range []struct {
		hour, day int
		want      Rate
	}{
		{0, 0, r}, {1000, 0, Rate{1000, 500, 1000}}, {1, 0, Rate{1, 1, 1000}}, {0, 7, Rate{200, 100, 7}},
	} {
		if got := r.Own(tt.hour, tt.day); got != tt.want {
			t.Errorf("%d an hour, %d a day: %+v, want %+v", tt.hour, tt.day, got, tt.want)
		}
	}
	if got := (Rate{}).Own(10, 0); got != (Rate{PerHour: 10, Burst: 10}) {
		t.Errorf("beside no default: %+v", got)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Default()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, r := range []Rate{{PerHour: -1}, {PerDay: -1}, {PerHour: 10}} {
		c := Default()
		c.Account = r
		if c.Validate() == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}

// TestMemoryIsBounded: of more senders than there is room for, those who sent
// much stay known.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	l, r := New(), Rate{PerHour: 1, Burst: 100, PerDay: 100}
	const heavy = 50
	for id := range int64(heavy) {
		for range 100 {
			l.Take(Key{Account, id}, r, begin)
		}
	}
	for id := range int64(maxKeys + 50_000) {
		l.Take(Key{Mailbox, id}, r, begin)
	}
	if n := l.Len(); n != maxKeys {
		t.Errorf("%d senders are remembered, want %d", n, maxKeys)
	}
	for id := range int64(heavy) {
		if l.Take(Key{Account, id}, r, begin).OK {
			t.Errorf("account %d was forgotten", id)
		}
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 200<<20 {
		t.Errorf("%d MiB in use", m.HeapAlloc>>20)
	}
	runtime.KeepAlive(l)
}

func BenchmarkTake(b *testing.B) {
	l, r := New(), Default().Mailbox
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Take(Key{Mailbox, int64(i % 100_000)}, r, begin.Add(time.Duration(i)*time.Millisecond))
	}
}
