package reroute

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// awaitPolicyd waits until policyd answers by a directory that is at least of
// this version, or 2 s have passed: then the flush comes too early, and a
// later round makes up for it.
func (w *Rerouter) awaitPolicyd(ctx context.Context, version int64) {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", w.Control)
	}}}
	for {
		have, err := directoryVersion(ctx, client)
		if err == nil && have >= version {
			return
		}
		if sleep(ctx, 20*time.Millisecond) != nil {
			w.Log.Warn("policyd does not know the new mode yet; re-routing all the same", "have", have, "want", version, "error", err)
			return
		}
	}
}

func directoryVersion(ctx context.Context, client *http.Client) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://policyd/directory", nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask policyd for its directory: %w", err)
	}
	defer resp.Body.Close()
	var state struct {
		Version int64 `json:"version"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&state); err != nil {
		return 0, fmt.Errorf("ask policyd for its directory: %w", err)
	}
	return state.Version, nil
}
