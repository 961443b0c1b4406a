package main

import (
	"strings"
	"testing"
	"time"
)

func TestVantageKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change func(*vantageKeys)
		err    string
	}{
		{func(*vantageKeys) {}, ""},
		{func(v *vantageKeys) { v.Witnesses = []string{"192.0.2.53:53", "[2001:db8::1]:53", "ns.example.org:53"} }, ""},
		{func(v *vantageKeys) { v.MinDomains, v.SecondLook = 0, 0 }, ""}, // never suspect
		{func(v *vantageKeys) { v.Share = 1 }, ""},
		{func(v *vantageKeys) { v.Share = 0 }, "vantage.share"},
		{func(v *vantageKeys) { v.Share = 1.1 }, "vantage.share"},
		{func(v *vantageKeys) { v.MinDomains = -1 }, "vantage.min_domains"},
		{func(v *vantageKeys) { v.SecondLook = 0 }, "vantage.second_look"},
		{func(v *vantageKeys) { v.SecondLook = -time.Second }, "vantage.second_look"},
		{func(v *vantageKeys) { v.Witnesses = []string{"192.0.2.53"} }, `"192.0.2.53" is not host:port`},
		{func(v *vantageKeys) { v.Witnesses = []string{":53"} }, "not host:port"},
		{func(v *vantageKeys) { v.Witnesses = []string{"ns.example.org:"} }, "not host:port"},
	} {
		v := defaults().Vantage
		c.change(&v)
		err := v.validate()
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %v, want %q", v, err, c.err)
		}
	}
}
