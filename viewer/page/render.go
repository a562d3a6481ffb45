package page

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed templates/*.html
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"asset":   func(name string) string { return assetPaths[name] },
	"number":  number,
	"visible": visible,
}).ParseFS(templateFiles, "templates/*.html"))

// render makes a whole page before it writes the first byte of it, so that nobody is
// given half of one.
func render(w io.Writer, name string, data any) error {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		return fmt.Errorf("rendering the page %q: %w", name, err)
	}
	if _, err := w.Write(bytes.ToValidUTF8(b.Bytes(), []byte("\ufffd"))); err != nil {
		return fmt.Errorf("writing the page %q: %w", name, err)
	}
	return nil
}
