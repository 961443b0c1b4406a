package main

import (
	"context"
	"encoding/json"
	"net/http"

	"understudy/internal/directory"
	"understudy/internal/evidence"
)

// directoryState is the answer to GET /directory.
type directoryState struct {
	Version int64 `json:"version"` // newest change that every answer now knows
	Loaded  bool  `json:"loaded"`
}

// control serves the worker: what was seen of primaries, and how far the
// directory has come. Its long polls end with ctx.
func control(ctx context.Context, dir *directory.Directory, ring *evidence.Ring) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /evidence", func(w http.ResponseWriter, r *http.Request) {
		poll, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		ring.ServeHTTP(w, r.WithContext(poll))
	})
	mux.HandleFunc("GET /directory", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		state := directoryState{Version: dir.Version(), Loaded: dir.Loaded()}
		json.NewEncoder(w).Encode(state) //nolint:errcheck // the client is gone
	})
	return mux
}
