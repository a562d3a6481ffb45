package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"path"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

type asset struct {
	content []byte
	kind    string
}

// assetPaths are where the pages find their files, and assets what is found there.
var assetPaths, assets = loadAssets()

// loadAssets puts a hash of each file's content into its name, so that a browser may keep
// it for ever and never has that of another version.
func loadAssets() (map[string]string, map[string]asset) {
	kinds := map[string]string{
		".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}
	paths, all := map[string]string{}, map[string]asset{}
	files, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic("reading the embedded assets: " + err.Error())
	}
	for _, f := range files {
		content, err := assetFiles.ReadFile("assets/" + f.Name())
		if err != nil {
			panic("reading the embedded assets: " + err.Error())
		}
		sum := sha256.Sum256(content)
		ext := path.Ext(f.Name())
		name := strings.TrimSuffix(f.Name(), ext) + "." + hex.EncodeToString(sum[:6]) + ext
		paths[f.Name()] = "/assets/" + name
		all[name] = asset{content, kinds[ext]}
	}
	return paths, all
}

// Asset is the file at /assets/ with a name, and its Content-Type. A name has a hash of
// what the file holds, so that it may be kept for ever. The content is not to be changed.
func Asset(name string) (content []byte, contentType string, ok bool) {
	a, ok := assets[name]
	return a.content, a.kind, ok
}
