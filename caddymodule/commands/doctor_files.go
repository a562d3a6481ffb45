package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/caddy-audit-log/caddy-audit-log/internal/doctor"
)

// checkFiles looks at who can get at what the audit log keeps, and at what it depends on.
func checkFiles(ctx context.Context, d *examination) []doctor.Diagnosis {
	if runtime.GOOS == "windows" {
		return []doctor.Diagnosis{doctor.NotKnown("modes say nothing here").Mend("see to it that only the server's user can open the files of the audit log")}
	}
	dir, ok := d.bufferDir()
	if !ok {
		return unread()
	}
	f := doctor.FilesAround(ctx, dir)
	for _, name := range d.storeFiles() {
		f.Private(name, "the store's file")
	}
	for _, name := range d.secretFiles() {
		f.Secret(name)
	}
	f.Writers(cmp.Or(d.place.config, "Caddyfile"), "the configuration", "turn the audit log off")
	if d.app != nil {
		for _, name := range d.app.KeyFiles() {
			f.Writers(name, "the keys of an issuer", "be anybody in the audit log")
		}
	}
	d.adminSocket(f)
	return f.Findings()
}

// storeFiles are those of the stores that have some here.
func (d *examination) storeFiles() (names []string) {
	if d.app == nil {
		return nil
	}
	for _, n := range d.app.Retention().Stores {
		at := locationOf(n)
		if at == "" {
			continue
		}
		names = append(names, at)
		if n.Opener.Describe().Kind == "sqlite" {
			names = append(names, at+"-wal", at+"-shm")
		}
	}
	return names
}

// secretPlaceholder is a file that a placeholder of the configuration reads.
var secretPlaceholder = regexp.MustCompile(`\{file\.([^{}]+)\}`)

// secretFiles are the files that the configuration reads credentials and private keys from.
func (d *examination) secretFiles() []string {
	var names []string
	var walk func(v any, depth int)
	walk = func(v any, depth int) {
		if depth > deepest {
			return
		}
		switch v := v.(type) {
		case map[string]any:
			// What shows a certificate names its key beside it.
			if key, ok := v["key"].(string); ok && key != "" && v["certificate"] != nil {
				names = append(names, key)
			}
			for _, one := range v {
				walk(one, depth+1)
			}
		case []any:
			for _, one := range v {
				walk(one, depth+1)
			}
		case string:
			for _, m := range secretPlaceholder.FindAllStringSubmatch(v, -1) {
				names = append(names, m[1])
			}
		}
	}
	var config any
	if json.Unmarshal(d.config, &config) == nil {
		walk(config, 0)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return strings.Contains(name, "{") })
}

// adminSocket looks at the socket of the admin endpoint, if it is one.
func (d *examination) adminSocket(f *doctor.Files) {
	address, err := d.place.endpoint()
	if err != nil {
		return
	}
	parsed, err := parseEndpoint(address)
	if err != nil || !parsed.IsUnixNetwork() {
		return // for checkListeners
	}
	f.Socket(parsed.Host)
}
