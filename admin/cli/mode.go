package cli

import (
	"fmt"
	"os/user"
	"slices"
	"strings"

	"understudy/admin/wording"
	"understudy/internal/directory"
	"understudy/internal/store"
)

const timelineLines = 20

type modeCmd struct {
	Domain string `arg:"" help:"Domain."`
	To     string `arg:"" optional:"" help:"emergency or normal; without, the mode is shown."`
	Reason string `help:"Why, for the timeline."`
}

// modeReport is what "mode DOMAIN" shows.
type modeReport struct {
	Domain   string               `json:"domain"`
	Mode     directory.Mode       `json:"mode"`
	Since    string               `json:"since"`
	Manual   bool                 `json:"manual"` // only a person ends it
	Text     string               `json:"text"`
	Health   []store.HostHealth   `json:"health"`
	Timeline []store.ModeChange   `json:"timeline"`
	Setting  directory.Activation `json:"activation"`

	NetworkEpisodes []store.NetworkEpisode `json:"network_episodes"`
}

// Run shows or switches the mode.
func (c *modeCmd) Run(e *env) error {
	name, err := domainName(c.Domain)
	if err != nil {
		return err
	}
	to := directory.Mode(c.To)
	if to != "" && to != directory.Emergency && to != directory.Normal {
		return usage("mode %q; it is emergency or normal", c.To)
	}
	s, err := e.open()
	if err != nil {
		return err
	}
	if to == "" {
		return c.show(e, s, name)
	}
	change, err := s.SwitchMode(e.ctx, store.Switch{Domain: name, To: to, Actor: actor(), Manual: true, Reason: c.Reason})
	if err != nil {
		return err
	}
	d, err := s.Domain(e.ctx, store.Everything, name)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s: switched to %s. %s", name, to, wording.Consequence(to))
	if change == nil {
		text = fmt.Sprintf("%s: was in %s already, since %s", name, to, stamp(d.ModeSince))
	}
	return e.print(struct {
		Domain  string         `json:"domain"`
		Mode    directory.Mode `json:"mode"`
		Since   string         `json:"since"`
		Manual  bool           `json:"manual"`
		Changed bool           `json:"changed"`
	}{name, d.Mode, stamp(d.ModeSince), d.ModeManual, change != nil}, "%s", text)
}

func (c *modeCmd) show(e *env, s *store.Store, name string) error {
	d, err := s.Domain(e.ctx, store.Everything, name)
	if err != nil {
		return err
	}
	health, err := s.Health(e.ctx, name)
	if err != nil {
		return err
	}
	line, err := s.Timeline(e.ctx, name, timelineLines)
	if err != nil {
		return err
	}
	episodes, err := s.NetworkEpisodes(e.ctx, name, timelineLines)
	if err != nil {
		return err
	}
	r := modeReport{Domain: name, Mode: d.Mode, Since: stamp(d.ModeSince), Manual: d.ModeManual, Setting: d.Activation,
		Text: wording.Mode(&d.Domain, line), Health: health, Timeline: line, NetworkEpisodes: episodes}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s since %s (activation %s)\n%s\n\nPrimaries:\n", name, d.Mode, r.Since, d.Activation, r.Text)
	for _, p := range d.Primaries {
		i := slices.IndexFunc(health, func(h store.HostHealth) bool { return h.Host == p })
		if i < 0 {
			fmt.Fprintf(&b, "  %s  not checked yet\n", p)
			continue
		}
		h := health[i]
		fmt.Fprintf(&b, "  %s  %s since %s, checked %s %s\n", p, h.Class, stamp(h.Since), stamp(h.CheckedAt), h.Detail)
	}
	b.WriteString("\nTimeline:\n")
	for _, t := range wording.Timeline(line, episodes, timelineLines) {
		fmt.Fprintf(&b, "  %s  %s\n", stamp(t.At), t.Line())
	}
	return e.print(r, "%s", strings.TrimRight(b.String(), "\n"))
}

// actor is who stands in the timeline for what the command line does.
func actor() string {
	if u, err := user.Current(); err == nil {
		return u.Username + " (command line)"
	}
	return "command line"
}
