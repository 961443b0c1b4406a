package story

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// queued is one message of Postfix's queue (postqueue(1), -j).
type queued struct {
	Queue      string `json:"queue_name"`
	ID         string `json:"queue_id"`
	Recipients []struct {
		Address string `json:"address"`
		Delay   string `json:"delay_reason"`
	} `json:"recipients"`
}

func (s *Story) queue(ctx context.Context) ([]queued, error) {
	out, err := exec.CommandContext(ctx, "postqueue", "-c", s.info.PostfixConfig, "-j").Output()
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	var all []queued
	d := json.NewDecoder(bytes.NewReader(out))
	for {
		var q queued
		if err := d.Decode(&q); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("list the queue: %w", err)
		}
		all = append(all, q)
	}
}

// noneDeferred fails when a message for the domain is deferred.
func (s *Story) noneDeferred(ctx context.Context) error {
	all, err := s.queue(ctx)
	if err != nil {
		return err
	}
	for _, q := range all {
		for _, r := range q.Recipients {
			if q.Queue == "deferred" && strings.HasSuffix(r.Address, "@"+s.info.Domain) {
				return fmt.Errorf("%s for %s is deferred: %s", q.ID, r.Address, r.Delay)
			}
		}
	}
	return nil
}

// deferred waits until a message for the address is deferred.
func (s *Story) deferred(ctx context.Context, address string) error {
	return within(ctx, patience, "deferred mail for "+address, func() error {
		all, err := s.queue(ctx)
		if err != nil {
			return err
		}
		for _, q := range all {
			for _, r := range q.Recipients {
				if q.Queue == "deferred" && r.Address == address {
					return nil
				}
			}
		}
		return fmt.Errorf("%d messages in the queue, none of them", len(all))
	})
}
