//go:build servers

package s3

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/caddy-audit-log/caddy-audit-log/audit"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder"
	"github.com/caddy-audit-log/caddy-audit-log/forwarder/spool"
	"github.com/caddy-audit-log/caddy-audit-log/internal/s3test"
)

// module is one for a server, which makes its bucket.
func module(t testing.TB, url string) *Module {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", "")
	return &Module{URL: url, Create: true}
}

func open(t testing.TB, m *Module, notes forwarder.Notes) *Store {
	t.Helper()
	s, err := provision(t, m).Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if notes != nil {
		s.(*Store).KeepNotes(notes)
	}
	return s.(*Store)
}

func write(t testing.TB, s *Store, batch []forwarder.Record) {
	t.Helper()
	if err := s.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// admin is the root account's own client.
func admin(t testing.TB, server *s3test.Server) *minio.Client {
	t.Helper()
	c, err := minio.New(server.Addr, &minio.Options{Creds: credentials.NewStaticV4(s3test.AccessKey, s3test.SecretKey, ""), Region: "us-east-1", MaxRetries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// versions are those of the entries' objects.
func versions(t testing.TB, c *minio.Client) (all []minio.ObjectInfo) {
	t.Helper()
	for i := range c.ListObjectsIter(t.Context(), testBucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true, Prefix: entriesDir}) {
		if i.Err != nil {
			t.Fatal(i.Err)
		}
		all = append(all, i)
	}
	return all
}

// retain asks for another mode or term.
func retain(t testing.TB, c *minio.Client, o minio.ObjectInfo, mode minio.RetentionMode, until time.Time) error {
	t.Helper()
	return c.PutObjectRetention(t.Context(), testBucket, o.Key, minio.PutObjectRetentionOptions{
		VersionID: o.VersionID, Mode: &mode, RetainUntilDate: &until, GovernanceBypass: true,
	})
}

func TestWhatIsLockedStaysForItsTermWhoeverAsks(t *testing.T) {
	server := s3test.Run(t, "", "")
	m := module(t, server.URL(testBucket))
	m.Lock, m.LockTerm = LockCompliance, testTerm
	s := open(t, m, nil)
	write(t, s, records(t, 1, 10))
	c := admin(t, server)
	all := versions(t, c)
	if len(all) != 1 {
		t.Fatalf("%d versions", len(all))
	}
	o := all[0]
	for _, bypass := range []bool{false, true} {
		if err := c.RemoveObject(t.Context(), testBucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: bypass}); err == nil {
			t.Errorf("bypass %v: the version was deleted", bypass)
		}
	}
	if err := retain(t, c, o, minio.Compliance, time.Now().Add(time.Hour)); err == nil {
		t.Error("the term was shortened")
	}
	if err := retain(t, c, o, minio.Governance, time.Now().Add(1000*24*time.Hour)); err == nil {
		t.Error("the mode was weakened")
	}
	if err := retain(t, c, o, minio.Compliance, time.Now().Add(2000*24*time.Hour)); err != nil {
		t.Errorf("the term could not be made longer, so that what was tried above proves nothing: %v", err)
	}
	// What can be done is to write over it: the version stays.
	if _, err := c.PutObject(t.Context(), testBucket, o.Key, strings.NewReader("forged"), 6, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := c.GetObject(t.Context(), testBucket, o.Key, minio.GetObjectOptions{VersionID: o.VersionID})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	name, _ := parseName(strings.TrimPrefix(o.Key, entriesDir))
	if err := name.eachEntry(r, func([]byte) error { return nil }); err != nil {
		t.Errorf("reading the version that was written over: %v", err)
	}
}

// keptFor puts a retention on records, as the forwarder does.
func keptFor(batch []forwarder.Record, class string, until time.Time) []forwarder.Record {
	for _, r := range batch {
		r.Entry.Retention = &audit.Retention{Class: class}
		if !until.IsZero() {
			r.Entry.Retention.KeepUntil = until.UnixMicro()
		}
	}
	return batch
}

func TestALockWithoutATermLastsForAsLongAsTheEntriesAreKept(t *testing.T) {
	server := s3test.Run(t, "", "")
	m := module(t, server.URL(testBucket))
	m.Lock = LockCompliance
	s := open(t, m, nil)
	year := time.Now().Add(366 * 24 * time.Hour).Truncate(time.Second)
	batch := keptFor(records(t, 1, 5), "team", year)
	keptFor(batch[4:], "team", year.Add(24*time.Hour)) // the latest counts
	batch = append(batch, keptFor(records(t, 6, 6), "unattributed", time.Now().Add(time.Hour))...)
	write(t, s, batch)
	c := admin(t, server)
	want := map[string]time.Time{"team": year.Add(24 * time.Hour), "unattributed": time.Now().Add(minLock)}
	for _, o := range versions(t, c) {
		name, ok := parseName(strings.TrimPrefix(o.Key, entriesDir))
		if !ok {
			continue
		}
		info, err := c.StatObject(t.Context(), testBucket, o.Key, minio.StatObjectOptions{VersionID: o.VersionID})
		if err != nil {
			t.Fatal(err)
		}
		mode := info.Metadata.Get("X-Amz-Object-Lock-Mode")
		until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil || mode != "COMPLIANCE" || until.Sub(want[name.class]).Abs() > time.Minute {
			t.Errorf("class %s: %s until %v, %v, want %v", name.class, mode, until, err, want[name.class])
		}
		if err := c.RemoveObject(t.Context(), testBucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true}); err == nil {
			t.Errorf("class %s: the version was deleted", name.class)
		}
		delete(want, name.class)
	}
	if len(want) > 0 {
		t.Errorf("no object of %v", want)
	}
	err := s.Write(t.Context(), keptFor(records(t, 7, 7), "legal", time.Time{}))
	mentions(t, err, `class "legal" keeps its entries forever`, "give the lock a term")
	if isRefused(err) {
		t.Error("the entry is blamed for the configuration")
	}
}

func TestALegalHoldIsSetAndGovernanceCanBeBypassed(t *testing.T) {
	server := s3test.Run(t, "", "")
	m := module(t, server.URL(testBucket))
	m.Lock, m.LockTerm, m.LegalHold = LockGovernance, testTerm, true
	write(t, open(t, m, nil), records(t, 1, 3))
	c := admin(t, server)
	o := versions(t, c)[0]
	remove := minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true}
	if err := c.RemoveObject(t.Context(), testBucket, o.Key, remove); err == nil {
		t.Fatal("it was deleted in spite of its legal hold")
	}
	off := minio.LegalHoldDisabled
	if err := c.PutObjectLegalHold(t.Context(), testBucket, o.Key, minio.PutObjectLegalHoldOptions{VersionID: o.VersionID, Status: &off}); err != nil {
		t.Fatal(err)
	}
	remove.GovernanceBypass = false
	if err := c.RemoveObject(t.Context(), testBucket, o.Key, remove); err == nil {
		t.Error("it was deleted in spite of its term")
	}
	remove.GovernanceBypass = true
	if err := c.RemoveObject(t.Context(), testBucket, o.Key, remove); err != nil {
		t.Errorf("whoever may bypass governance cannot: %v", err)
	}
}

func TestARepeatLeavesOneObjectInOneVersion(t *testing.T) {
	server := s3test.Run(t, "", "")
	m := module(t, server.URL(testBucket))
	m.Lock, m.LockTerm = LockCompliance, testTerm
	notes := new(memoryNotes)
	s := open(t, m, notes)
	write(t, s, records(t, 1, 250))
	o := versions(t, admin(t, server))[0]
	s.Close()
	// As it is when the answer is lost, and the forwarder offers more afterwards.
	b, _ := json.Marshal(note{Object: strings.TrimPrefix(o.Key, entriesDir)})
	for range 3 {
		if err := notes.SetNote(b); err != nil {
			t.Fatal(err)
		}
		s = open(t, m, notes)
		write(t, s, records(t, 1, 251))
		s.Close()
	}
	// And without its note, as under a new name.
	s = open(t, m, nil)
	write(t, s, records(t, 1, 252))
	if all := versions(t, admin(t, server)); len(all) != 3 {
		t.Errorf("there are %d versions, want 1 to 250, 251 and 252: %v", len(all), all)
	}
	if n, err := server.Versions(testBucket); err != nil || n != 4 {
		t.Errorf("%d files, %v; want the marker and three objects", n, err)
	}
}

// TestHelperWritesUntilItIsKilled is what the test below starts.
func TestHelperWritesUntilItIsKilled(t *testing.T) {
	dir := os.Getenv("S3_HELPER_DIR")
	if dir == "" {
		return
	}
	m := module(t, os.Getenv("S3_HELPER_URL"))
	s := open(t, m, &fileNotes{filepath.Join(dir, "note")})
	_ = s.Write(t.Context(), records(t, 1, 10))
}

// fileNotes are kept in a file.
type fileNotes struct{ name string }

func (n *fileNotes) Note() []byte {
	b, _ := os.ReadFile(n.name) // none is none
	return b
}

func (n *fileNotes) SetNote(b []byte) error { return os.WriteFile(n.name, b, 0o600) }

func TestAnUploadThatArrivesLateAfterAKillIsTheSameObject(t *testing.T) {
	for _, again := range []int{10, 12, 4} { // as many are offered afterwards
		t.Run(fmt.Sprint(again), func(t *testing.T) {
			server := s3test.Run(t, "", "")
			p := newProxy(t, server.Addr)
			url, dir := "http://"+p.addr+"/"+testBucket, t.TempDir()
			late := make(chan struct{})
			p.set(func() { p.slow, p.fast = time.Hour, late })
			helper := exec.Command(os.Args[0], "-test.run=^TestHelperWritesUntilItIsKilled$")
			helper.Env = append(os.Environ(), "S3_HELPER_DIR="+dir, "S3_HELPER_URL="+url)
			if err := helper.Start(); err != nil {
				t.Fatal(err)
			}
			for held := false; !held; time.Sleep(5 * time.Millisecond) { // until the upload is on its way
				p.set(func() { held = p.slow == 0 })
			}
			helper.Process.Kill()
			helper.Wait()

			notes := &fileNotes{filepath.Join(dir, "note")}
			s := open(t, module(t, url), notes)
			write(t, s, records(t, 1, again))
			close(late)
			p.idle(t)
			write(t, s, records(t, again+1, 20))
			s.Close()
			seen := map[string]int{}
			objects, err := server.Objects(testBucket, entriesDir)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				b, err := o.Plain()
				if err != nil {
					t.Fatal(err)
				}
				for doc := range bytes.Lines(b) {
					seen[string(doc)]++
				}
			}
			for _, r := range records(t, 1, 20) {
				if n := seen[string(r.JSON)+"\n"]; n != 1 {
					t.Errorf("entry %d is there %d times", r.Sequence, n)
				}
			}
			if n, err := server.Versions(testBucket); err != nil || n != 1+len(objects) {
				t.Errorf("%d files, %v; want one for each of %d objects and the marker", n, err, len(objects))
			}
		})
	}
}

// idle waits until no connection is open.
func (p *proxy) idle(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		n := 0
		p.set(func() { n = len(p.open) })
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("connections stay open")
		}
	}
}

func TestWhatIsWrongIsFoundAtTheOpeningWithACure(t *testing.T) {
	server := s3test.Run(t, "", "")
	if err := admin(t, server).MakeBucket(t.Context(), "unlocked", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Module)
		says   []string
	}{
		{"no bucket", func(*Module) {}, []string{"NoSuchBucket", `make the bucket "audit"`, "create on"}},
		{"no lock", func(m *Module) { m.URL, m.Lock, m.LockTerm = server.URL("unlocked"), LockCompliance, testTerm }, []string{`bucket "unlocked" has no Object Lock`, "object-lock-enabled-for-bucket"}},
		{"no lock for a hold", func(m *Module) { m.URL, m.LegalHold = server.URL("unlocked"), true }, []string{"has no Object Lock"}},
		{"wrong secret", func(*Module) { t.Setenv("AWS_SECRET_ACCESS_KEY", "another secret") }, []string{"check its option secret_key"}},
		{"wrong key", func(*Module) { t.Setenv("AWS_ACCESS_KEY_ID", "ANOTHERKEY") }, []string{"check its options access_key"}},
		{"no key", func(*Module) { t.Setenv("AWS_ACCESS_KEY_ID", "") }, []string{"{env.AWS_ACCESS_KEY_ID}", "credentials iam"}},
		{"wrong region", func(m *Module) { m.Region = "eu-central-1" }, []string{"check its option region"}},
		{"nobody there", func(m *Module) { m.URL = "http://127.0.0.1:1/audit" }, []string{"check the endpoint's host"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := module(t, server.URL(testBucket))
			m.Create = false
			test.change(m)
			provision(t, m)
			_, err := m.Open(t.Context(), nil)
			mentions(t, err, append(test.says, "opening audit store")...)
			mentions(t, m.Probe(t.Context(), records(t, 1, 1)[0]), test.says...)
			if isRefused(err) {
				t.Error("that is no refusal of entries")
			}
			for _, secret := range []string{s3test.SecretKey, "another secret", "ANOTHERKEY"} {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("the error shows a credential")
				}
			}
		})
	}
}

func TestAKeyThatIsRotatedIsUsedAtOnce(t *testing.T) {
	server := s3test.Run(t, "", "")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(s3test.SecretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := module(t, server.URL(testBucket))
	m.AccessKey, m.SecretKey = "{env.AWS_ACCESS_KEY_ID}", "{file."+file+"}"
	s := open(t, m, nil)
	write(t, s, records(t, 1, 3))
	if err := os.WriteFile(file, []byte("wrong for a while"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := s.Write(t.Context(), records(t, 4, 6))
	mentions(t, err, "writing entries 4 to 6 to audit store", "check its option secret_key")
	if err := os.WriteFile(file, []byte(s3test.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, s, records(t, 4, 6))
}

func TestAServerThatIsFrozenIsAnError(t *testing.T) {
	server := s3test.Run(t, "", "")
	m := module(t, server.URL(testBucket))
	s := open(t, m, nil)
	write(t, s, records(t, 1, 3))
	s.bucket.(*client).timeout = 200 * time.Millisecond
	thaw, err := server.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), records(t, 4, 6))
	thaw()
	mentions(t, err, "did not answer within", "longer timeout")
	s.bucket.(*client).timeout = time.Minute
	// The upload that was given up may be under way beside its repeat, which may then be
	// an error: the forwarder tries again.
	for try := 1; ; try++ {
		if err = s.Write(t.Context(), records(t, 4, 7)); err == nil {
			break
		}
		if t.Log(err); try == 20 {
			t.Fatal("it does not recover")
		}
	}
	write(t, s, records(t, 7, 8))
	// By name: a server that looks and writes in two steps may keep two versions of one object
	// when both uploads come at the same moment.
	n, seen := 0, map[string]bool{}
	for _, o := range versions(t, admin(t, server)) {
		if o.Size > 0 && !seen[o.Key] {
			seen[o.Key] = true
			name, _ := parseName(strings.TrimPrefix(o.Key, entriesDir))
			n += name.entries
		}
	}
	if n != 8 {
		t.Errorf("%d entries are there, want 8", n)
	}
}

func TestAProbeLeavesNothingButTheMarker(t *testing.T) {
	server := s3test.Run(t, "", "")
	m := module(t, server.URL(testBucket))
	m.Lock, m.LockTerm = LockCompliance, testTerm
	provision(t, m)
	for range 3 {
		if err := m.Probe(t.Context(), records(t, 1, 1)[0]); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := server.Versions(testBucket); err != nil || n != 1 {
		t.Errorf("%d files, %v", n, err)
	}
}

func TestADaysManifestIsWrittenOnceAndLocked(t *testing.T) {
	server := s3test.Run(t, "", "")
	m := module(t, server.URL(testBucket))
	m.Lock, m.LockTerm = LockCompliance, testTerm
	notes := new(memoryNotes)
	day := time.Date(2030, 3, 1, 12, 0, 0, 0, time.UTC)
	for n := range 4 {
		s := open(t, m, notes)
		s.now = func() time.Time { return day.AddDate(0, 0, n) }
		write(t, s, records(t, 100*n+1, 100*n+5))
		write(t, s, records(t, 100*n+6, 100*n+9))
		s.Close()
	}
	c := admin(t, server)
	var days []string
	var before *ManifestLink
	for i := range c.ListObjectsIter(t.Context(), testBucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true, Prefix: manifestsDir}) {
		if i.Err != nil {
			t.Fatal(i.Err)
		}
		r, err := c.GetObject(t.Context(), testBucket, i.Key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var man Manifest
		if err := json.NewDecoder(r).Decode(&man); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if man.Entries != 9 || len(man.Objects) != 2 || (man.Previous == nil) != (before == nil) {
			t.Errorf("%s: %+v", i.Key, man)
		}
		before = &ManifestLink{}
		days = append(days, man.Day)
		if err := c.RemoveObject(t.Context(), testBucket, i.Key, minio.RemoveObjectOptions{VersionID: i.VersionID, GovernanceBypass: true}); err == nil {
			t.Errorf("%s was deleted", i.Key)
		}
	}
	if fmt.Sprint(days) != "[2030-03-01 2030-03-02 2030-03-03]" {
		t.Errorf("manifests of %v", days)
	}

	// A lock does not keep anybody from hiding an object behind a delete marker.
	told := func() (all []string) {
		for _, err := range m.Scan(t.Context(), forwarder.Query{}, func(name string, err error) { all = append(all, name+": "+err.Error()) }) {
			if err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	if said := told(); len(said) > 0 {
		t.Errorf("nothing is missing, and it is told of %q", said)
	}
	var hidden string
	for i := range c.ListObjectsIter(t.Context(), testBucket, minio.ListObjectsOptions{Recursive: true, Prefix: entriesDir}) {
		hidden = cmp.Or(hidden, i.Key)
	}
	if err := c.RemoveObject(t.Context(), testBucket, hidden, minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if said := told(); len(said) != 1 || !strings.Contains(said[0], "2030-03-01.json") || !strings.Contains(said[0], hidden) {
		t.Errorf("an object is hidden, and it is told of %q", said)
	}
}

func TestWhatIsDamagedOrForeignIsNamed(t *testing.T) {
	server := s3test.Run(t, "", "")
	m := module(t, server.URL(testBucket))
	s := open(t, m, nil)
	write(t, s, records(t, 1, 5))
	write(t, s, records(t, 6, 9))
	objects, err := server.Objects(testBucket, entriesDir)
	if err != nil || len(objects) != 2 {
		t.Fatal(err, len(objects))
	}
	b, err := os.ReadFile(objects[0].File)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	f, err := os.OpenFile(objects[0].File, os.O_WRONLY, 0) // in place: its attributes stay
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := admin(t, server).PutObject(t.Context(), testBucket, entriesDir+"default/notes.txt", strings.NewReader("hello"), 5, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	n := 0
	var last error
	for doc, err := range spool.New(m, t.TempDir()).Read(t.Context(), forwarder.Query{}) {
		if last = err; err == nil && !bytes.Equal(doc, records(t, 6+n, 6+n)[0].JSON) {
			t.Errorf("%s", doc)
		}
		if err == nil {
			n++
		}
	}
	mentions(t, last, "2 objects are damaged, foreign or not complete", objects[0].Key, "notes.txt")
	if n != 4 {
		t.Errorf("%d entries of the sound object", n)
	}
	// What the damaged one should have had is written again when it is offered again.
	s.Close()
	write(t, open(t, m, nil), records(t, 1, 9))
	all, err := server.Objects(testBucket, entriesDir+"default/"+testInstance)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d objects, %v; want one more than before", len(all), err)
	}
	again, err := all[2].Plain()
	if err != nil || !bytes.Equal(again, plain(records(t, 1, 5))) {
		t.Errorf("%s: %v", all[2].Key, err)
	}
}

func TestTLSIsVerified(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	server := s3test.Run(t, cert, key)
	m := module(t, server.URL(testBucket))
	m.TLS.CA = cert
	s := open(t, m, nil)
	write(t, s, records(t, 1, 100))
	m = module(t, server.URL(testBucket))
	_, err := provision(t, m).Open(t.Context(), nil)
	mentions(t, err, "tls ca")
	m = module(t, server.URL(testBucket))
	m.TLS.CA, m.TLS.ServerName = cert, "other.example.com"
	_, err = provision(t, m).Open(t.Context(), nil)
	mentions(t, err, "tls server_name")
	m = module(t, "http://"+server.Addr+"/"+testBucket)
	if _, err = provision(t, m).Open(t.Context(), nil); err == nil {
		t.Error("plain HTTP was taken by a server of TLS")
	}
}

func certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
