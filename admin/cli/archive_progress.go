package cli

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// bar is a progress bar on standard error; it shows nothing unless a person
// looks at it (no terminal, or --json). With bytes the total is a size. A
// total of -1 is unknown. It may be used from many goroutines.
func (e *env) bar(total int64, what string, bytes bool) *progressbar.ProgressBar {
	out, show := io.Discard, false
	if f, ok := e.err.(*os.File); ok && !e.json {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			out, show = f, true
		}
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(out), progressbar.OptionSetVisibility(show),
		progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(bytes), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
}
