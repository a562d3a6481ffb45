//go:build root && linux

package deploy

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The image's build needs no root, but another build of the program than all other tests
// have, which takes minutes.

// What the image is made from has all that the program is built from, and is built by the
// command that stands there.
func TestTheImagesBuildMakesAStaticProgramFromItsContext(t *testing.T) {
	context := t.TempDir()
	copyContext(t, context)
	out := t.TempDir()
	var build string
	for _, i := range stages(t)[1] {
		if i.name == "RUN" && strings.Contains(i.rest, "go build") {
			build = i.rest
		}
	}
	cmd := exec.Command("sh", "-euc", strings.ReplaceAll(build, "/out/", out+"/"))
	cmd.Dir = context
	cmd.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH=amd64")
	if o, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, o)
	}
	file, err := elf.Open(filepath.Join(out, "caddy"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %v, %v", libraries, err)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a dynamic linker, and the image has none")
		}
	}
}

// copyContext copies what the Dockerfile's .dockerignore lets through.
func copyContext(t *testing.T, to string) {
	t.Helper()
	lines := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(read(t, "docker/Dockerfile.dockerignore"), ""))
	if lines[0] != "*" {
		t.Fatal("the list of what the context has must be of what it has")
	}
	n := 0
	for _, line := range lines[1:] {
		if strings.HasPrefix(line, "**/") {
			continue
		}
		from, err := filepath.Glob(filepath.Join("..", strings.TrimPrefix(line, "!")))
		if err != nil || len(from) == 0 {
			t.Fatalf("%s: nothing is there, %v", line, err)
		}
		for _, name := range from {
			err := filepath.WalkDir(name, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() && d.Name() != "testdata" {
					return err
				}
				if d.IsDir() {
					return filepath.SkipDir
				}
				if strings.HasSuffix(path, "_test.go") {
					return nil
				}
				n++
				rel, _ := filepath.Rel("..", path)
				target := filepath.Join(to, rel)
				if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
					return err
				}
				return os.WriteFile(target, []byte(read(t, path)), 0o600)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("the context has %d files", n)
}
