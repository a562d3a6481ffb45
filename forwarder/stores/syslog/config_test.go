package syslogstore

import (
	"strings"
	"testing"
	"time"
)

func TestAConfigurationThatCannotWorkSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		config Config
		cure   string
	}{
		{Config{URL: "tcp://siem.example.com:601"}, "insecure"},
		{Config{URL: "tls://a", Facility: "local8"}, "local7"},
		{Config{URL: "tls://a", Facility: "24"}, "0 to 23"},
		{Config{URL: "tls://a", Facility: "013"}, "0 to 23"},
		{Config{URL: "tls://a", Hostname: "a b"}, "printable ASCII"},
		{Config{URL: "tls://a", Hostname: strings.Repeat("h", 256)}, "255"},
		{Config{URL: "tls://a", AppName: strings.Repeat("h", 49)}, "48"},
		{Config{URL: "tls://a", AppName: "ä"}, "48"},
		{Config{URL: "tls://a", Enterprise: "x"}, "digits"},
		{Config{URL: "tls://a", Enterprise: strings.Repeat("1", 27)}, "digits"},
		{Config{URL: "tls://a", Timeout: -1}, "timeout"},
		{Config{URL: "tls://a", Timeout: time.Hour}, "10m"},
		{Config{URL: "tls://a", Resend: time.Hour}, "10m"},
		{Config{URL: "tls://a", MaxMessage: 100}, "2048"},
		{Config{URL: "tls://a", TLS: TLS{Certificate: "x"}}, "two files"},
		{Config{URL: "tcp://127.0.0.1:601", TLS: TLS{CA: "x"}}, "has no TLS"},
		{Config{URL: "unix:///run/x", TLS: TLS{CA: "x"}}, "has no TLS"},
	} {
		_, err := Open(c.config, nil)
		mentions(t, err, c.cure)
	}
}

func TestAURLIsReadInOneWayOnly(t *testing.T) {
	for url, want := range map[string]string{
		"tls://siem.example.com":       "tls://siem.example.com:6514",
		"TLS://SIEM.example.com:06514": "tls://siem.example.com:6514",
		"tls://siem.example.com:443/":  "tls://siem.example.com:443",
		"tls://[::1]":                  "tls://[::1]:6514",
		"tls://[0:0::1]:1":             "tls://[::1]:1",
		"tcp://127.0.0.1:601":          "tcp://127.0.0.1:601",
		"unix:///run//audit/../x.sock": "unix:///run/x.sock",
	} {
		got, err := parseTarget(url)
		if err != nil || got.location() != want {
			t.Errorf("%s is %s, want %s; %v", url, got.location(), want, err)
		}
	}
	for url, cure := range map[string]string{
		"":                          "tls://siem",
		"siem.example.com":          "begin with tls://",
		"https://siem.example.com":  "begin with tls://",
		"udp://siem.example.com":    "use tls://",
		"tls://":                    "host",
		"tls://{env.X}":             "{$NAME}",
		"tls://a:0":                 "port",
		"tls://a:65536":             "port",
		"tcp://a":                   "port",
		"tls://a/path":              "more than a host",
		"tls://a?x=1":               "more than a host",
		"tls://user:planted@a":      "more than a host",
		"tls://user:planted@a b:%%": "host",
		"unix://run/x":              "absolute",
		"unix://":                   "absolute",
	} {
		_, err := parseTarget(url)
		mentions(t, err, cure)
		if err != nil && strings.Contains(err.Error(), "planted") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, url := range []string{"tls://siem.example.com", "tcp://[::1%25lo]:1", "unix:///a/b", "tls://a:1/?#", "tls://u@h", "tls://[fe80::1]"} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		got, err := parseTarget(url)
		if err != nil {
			return
		}
		again, err := parseTarget(got.location())
		if err != nil && strings.ContainsAny(got.host, "%") {
			return // what a zone or an escape stands for is not escaped again
		}
		if err != nil || again.location() != got.location() {
			t.Errorf("%q is shown as %q, which is read as %q, %v", url, got.location(), again.location(), err)
		}
	})
}
