package s3

import (
	"strings"
	"testing"
)

func TestALocationIsTheDestinationAndNothingElse(t *testing.T) {
	for url, want := range map[string][2]string{
		"https://s3.example.com/audit":                            {"https://s3.example.com/audit", "us-east-1"},
		"https://S3.Example.com:443/audit/":                       {"https://s3.example.com/audit", "us-east-1"},
		"https://s3.example.com:9000/audit/a/b/":                  {"https://s3.example.com:9000/audit/a/b", "us-east-1"},
		"http://127.0.0.1:7070/audit/a":                           {"http://127.0.0.1:7070/audit/a", "us-east-1"},
		"https://s3.eu-central-1.amazonaws.com/audit":             {"https://s3.eu-central-1.amazonaws.com/audit", "eu-central-1"},
		"https://s3.dualstack.eu-west-3.amazonaws.com/audit":      {"https://s3.dualstack.eu-west-3.amazonaws.com/audit", "eu-west-3"},
		"https://s3.amazonaws.com/audit":                          {"https://s3.amazonaws.com/audit", "us-east-1"},
		"https://[::1]:7070/audit":                                {"https://[::1]:7070/audit", "us-east-1"},
		"https://s3.cn-north-1.amazonaws.com.cn/audit":            {"https://s3.cn-north-1.amazonaws.com.cn/audit", "cn-north-1"},
		"https://s3.eu-central-1.amazonaws.com.example.com/audit": {"https://s3.eu-central-1.amazonaws.com.example.com/audit", "us-east-1"},
	} {
		got, err := parseTarget(url, "")
		if err != nil || got.location() != want[0] || got.region != want[1] {
			t.Errorf("%s: %s in %s, %v", url, got.location(), got.region, err)
		}
	}
	got, err := parseTarget("s3://audit/a", "eu-central-1")
	if err != nil || got.location() != "https://s3.eu-central-1.amazonaws.com/audit/a" {
		t.Errorf("%s, %v", got.location(), err)
	}
}

func TestWhatAURLMustNotBe(t *testing.T) {
	for url, says := range map[string]string{
		"":                             "the URL is empty",
		"audit":                        "does not begin with",
		"ftp://s3.example.com/audit":   "does not begin with",
		"https://s3.example.com":       "names no bucket",
		"https://s3.example.com/AUDIT": "names no bucket",
		"https://s3.example.com/a":     "names no bucket",
		"https://s3.example.com/a..b":  "names no bucket",
		"https://key:planted@s3.example.com/audit":                 "has a user",
		"https://s3.example.com/audit?x=planted":                   "has a query",
		"https://s3.example.com/audit#planted":                     "fragment",
		"https://s3.example.com/audit/../x":                        "prefix",
		"https://s3.example.com/audit/a//b":                        "prefix",
		"https://s3.example.com/audit/ä":                           "prefix",
		"s3://audit":                                               "needs the option region",
		"https:///audit":                                           "no host",
		"https://%zz/audit":                                        "cannot be read",
		"https://s3.example.com/audit/" + strings.Repeat("x", 300): "prefix",
	} {
		_, err := parseTarget(url, "")
		mentions(t, err, says)
		if err != nil && strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: the error shows what may be a credential: %v", url, err)
		}
	}
	_, err := parseTarget("s3://audit", "eu central")
	mentions(t, err, "region")
	_, err = parseTarget("s3://audit:9000", "eu-central-1")
	mentions(t, err, "has no port")
}
