package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestBroadSearch: what a search holds in memory is bound. When many days are
// too much it looks at fewer, and when one is, it is refused.
func TestBroadSearch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := sample(300)
	for i := range m {
		m[i].Received = day.AddDate(0, 0, i%10)
	}
	m[0].Received = day.AddDate(0, 0, 11) // one that promises little work
	if err := s.IndexBatch(t.Context(), IndexBatch{Segment: "s1", To: 50, Messages: m}); err != nil {
		t.Fatal(err)
	}
	f := MessageFilter{Access: Access{All: true}, Query: parse(t, `wo* OR te* OR fa* OR "text wor"*`), Limit: maxPage}
	ofDay := 0
	for _, room := range []int{lookBytes, 0} {
		if s.memory = room; room == 0 {
			s.memory = ofDay + ofDay/2
		}
		if found := pages(t, s, f); len(found) != len(m) {
			t.Errorf("with %d bytes: %d found", s.memory, len(found))
		}
		for s.memory = 100; ofDay == 0; s.memory += 100 { // what one day needs
			if _, _, err := s.SearchMessages(t.Context(), f); err == nil {
				ofDay = s.memory
			} else if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
		}
	}
	if ofDay < 30*rowBytes {
		t.Errorf("a day's 30 words and more are %d bytes", ofDay)
	}
}

// TestSearchesAtATime: more than some wait, as long as who asks does.
func TestSearchesAtATime(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for range maxLooking {
		s.looking <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := s.SearchMessages(ctx, MessageFilter{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-s.looking
	if _, _, err := s.SearchMessages(t.Context(), MessageFilter{}); err != nil {
		t.Error(err)
	}
	if len(s.looking) != maxLooking-1 {
		t.Errorf("%d places are taken", len(s.looking))
	}
}
