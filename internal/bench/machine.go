package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Machine is where and when a run was.
type Machine struct {
	Started time.Time `json:"started"`
	CPUs    int       `json:"cpus"`
	CPU     string    `json:"cpu,omitempty"`
	Go      string    `json:"go"`
	Load    float64   `json:"load_before"` // of one minute, before the first benchmark: what else was running
}

func thisMachine() Machine {
	m := Machine{Started: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		fmt.Sscanf(string(text), "%f", &m.Load) //nolint:errcheck // stays 0
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // elsewhere than on Linux there is no name
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			m.CPU = strings.Trim(name, "\t :\n")
			break
		}
	}
	return m
}
