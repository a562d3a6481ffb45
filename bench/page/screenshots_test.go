//go:build servers

package page

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// maxPicture bounds a picture's file, in bytes.
const maxPicture = 200_000

// TestScreenshotsAreTakenAndSmall takes the pictures of the documentation; without the flag,
// into a directory that is removed.
func TestScreenshotsAreTakenAndSmall(t *testing.T) {
	dir := t.TempDir()
	b := open(t, memberEmail)
	if *screenshots != "" {
		dir = filepath.Join("..", "..", *screenshots)
		// The first heartbeat comes after a minute, and says until when the log is complete.
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
			if b.visit(logOf(acme)); b.count(".complete time") > 0 {
				break
			}
		}
	}
	take := func(name string) {
		t.Helper()
		shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		b.must(err)
		small := smaller(t, shot)
		if len(small) > maxPicture {
			t.Errorf("%s has %d bytes", name, len(small))
		}
		b.must(os.WriteFile(filepath.Join(dir, name), small, 0o644))
	}
	log := logOf(acme) + "?range=7d"
	b.visit(log)
	take("page-light.png")
	b.prefer("dark")
	take("page-dark.png")
	b.prefer("light")
	b.click(`tr.entry:has(.outcome.denied) a.open, tr.entry:nth-of-type(4) a.open`)
	b.there("#panel #entry")
	eval[any](b, `(scrollTo(0, 0), document.activeElement.blur(), null)`)
	take("panel.png")
	b.call(do(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 740, DeviceScaleFactor: 2, Mobile: true}))
	b.visit(log)
	take("phone.png")
}

// smaller writes a picture with the 256 most frequent of its colours. A page has few more,
// at the edges of letters.
func smaller(t *testing.T, shot []byte) []byte {
	t.Helper()
	from, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	box := from.Bounds()
	all := image.NewRGBA(box)
	draw.Draw(all, box, from, box.Min, draw.Src)
	colours := make([]uint32, 0, box.Dx()*box.Dy()) // of each pixel, row by row
	often := map[uint32]int{}
	for i := 0; i < len(all.Pix); i += 4 {
		c := binary.BigEndian.Uint32(all.Pix[i:])
		colours = append(colours, c)
		often[c]++
	}
	ordered := slices.SortedFunc(maps.Keys(often), func(a, b uint32) int { return cmp.Or(often[b]-often[a], cmp.Compare(a, b)) })
	var palette color.Palette
	nearest := map[uint32]uint8{}
	for i, c := range ordered {
		if i < 256 {
			palette = append(palette, color.RGBA{uint8(c >> 24), uint8(c >> 16), uint8(c >> 8), uint8(c)})
			nearest[c] = uint8(i)
			continue
		}
		least := math.MaxInt
		for j, o := range ordered[:256] {
			r, g, b := int(c>>24)-int(o>>24), int(c>>16&0xff)-int(o>>16&0xff), int(c>>8&0xff)-int(o>>8&0xff)
			if d := r*r + g*g + b*b; d < least {
				least, nearest[c] = d, uint8(j)
			}
		}
	}
	to := image.NewPaletted(box, palette)
	for i, c := range colours {
		to.Pix[i] = nearest[c]
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
