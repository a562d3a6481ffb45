package deploy

import (
	"go/version"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// The image and the releases are built by one Go, which is one that go.mod allows.
func TestTheImageAndReleasesNameOneGo(t *testing.T) {
	in := func(file, pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(read(t, file))
		if m == nil {
			t.Fatalf("%s names no version of Go", file)
		}
		return m[1]
	}
	release := in("release.sh", `(?m)^readonly go_version=([0-9.]+)$`)
	if image := in("docker/Dockerfile", `(?m)^ARG GO_IMAGE=golang:([0-9.]+)-`); image != release {
		t.Errorf("the image is built by Go %s, releases by %s", image, release)
	}
	mod, err := modfile.Parse("go.mod", []byte(read(t, "../go.mod")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if version.Compare("go"+release, "go"+mod.Go.Version) < 0 {
		t.Errorf("releases are built by Go %s, go.mod wants %s", release, mod.Go.Version)
	}
}

func TestTheImageIsBuiltLikeAReleaseButForItsCommit(t *testing.T) {
	script, dockerfile := read(t, "release.sh"), read(t, "docker/Dockerfile")
	for _, both := range []string{"CGO_ENABLED=0", "-trimpath"} {
		if !strings.Contains(script, both) || !strings.Contains(dockerfile, both) {
			t.Errorf("not both have %s", both)
		}
	}
	if !strings.Contains(script, "-ldflags '-s -w'") || !strings.Contains(dockerfile, `-ldflags "-s -w"`) {
		t.Error("their flags of the linker differ")
	}
}

// Whatever an action is called tomorrow, the one that was looked at is the one that runs.
func TestActionsArePinnedByCommit(t *testing.T) {
	for _, name := range []string{"ci", "nightly", "release"} {
		workflow := read(t, "../.github/workflows/"+name+".yml")
		uses := regexp.MustCompile(`(?m)uses: (.*)$`).FindAllStringSubmatch(workflow, -1)
		for _, u := range uses {
			if !regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40} # v[0-9.]+$`).MatchString(u[1]) {
				t.Errorf("%s.yml: %s", name, u[1])
			}
		}
		if len(uses) == 0 {
			t.Errorf("%s.yml uses no action; this test sees nothing", name)
		}
		if !strings.Contains(workflow, "\npermissions:\n  contents: read\n") {
			t.Errorf("%s.yml does not begin with the least permissions", name)
		}
	}
}
