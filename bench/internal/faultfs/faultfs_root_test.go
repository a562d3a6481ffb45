//go:build linux && root

package faultfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// A process that mounts a filesystem must not map its files, so tests of maps
// are run by a child.
func TestMain(m *testing.M) {
	if path := os.Getenv("FAULTFS_CHILD"); path != "" {
		if err := errors.Join(mapped(path), bolted(path+".bolt")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func mount(t *testing.T) (f *FS, dir, behind string) {
	t.Helper()
	dir, behind = t.TempDir(), t.TempDir()
	f, err := Mount(dir, behind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return f, dir, behind
}

func create(t *testing.T, path, content string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	return f
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != want {
		t.Errorf("%s holds %.40q, %v, and not %.40q", filepath.Base(path), b, err, want)
	}
}

// Random operations must do the same as they do in an ordinary directory.
func TestItDoesWhatTheDirectoryBehindDoes(t *testing.T) {
	_, dir, behind := mount(t)
	plain := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	name := func() string { return fmt.Sprintf("f%d", rnd.IntN(6)) }
	for step := range 2000 {
		a, b, n, off := name(), name(), rnd.IntN(20000), rnd.Int64N(30000)
		body := bytes.Repeat([]byte{byte('a' + step%26)}, n)
		what := rnd.IntN(8)
		one := func(in string) (string, error) {
			p, q := filepath.Join(in, a), filepath.Join(in, b)
			switch what {
			case 0, 1, 2:
				f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o640)
				if err != nil {
					return "", err
				}
				_, err = f.WriteAt(body, off)
				return "", errors.Join(err, f.Sync(), f.Close())
			case 3:
				return "", os.Truncate(p, off)
			case 4:
				return "", os.Rename(p, q)
			case 5:
				return "", os.Remove(p)
			case 6:
				f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
				if err != nil {
					return "", err
				}
				_, err = f.Write(body)
				return "", errors.Join(err, f.Close())
			default:
				c, err := os.ReadFile(p)
				return string(c), err
			}
		}
		gotText, got := one(dir)
		wantText, want := one(plain)
		if !sameError(got, want) || gotText != wantText {
			t.Fatalf("step %d, operation %d on %s: %v (%d bytes), and in an ordinary directory %v (%d bytes)", step, what, a, got, len(gotText), want, len(wantText))
		}
	}
	for _, in := range []string{dir, behind} {
		got, want := tree(t, in), tree(t, plain)
		if got != want {
			t.Errorf("%s holds\n%s and an ordinary directory\n%s", in, got, want)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		t.Errorf("syncing the directory: %v", err)
	}
}

func sameError(a, b error) bool {
	var x, y syscall.Errno
	return (a == nil) == (b == nil) && errors.As(a, &x) == errors.As(b, &y) && x == y
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		body, err := os.ReadFile(filepath.Join(dir, path))
		fmt.Fprintf(&b, "%s %s %d %x\n", path, info.Mode(), info.Size(), body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A file that was unlinked or replaced goes on for who has it open.
func TestAnOpenFileOutlivesItsName(t *testing.T) {
	_, dir, _ := mount(t)
	f := create(t, filepath.Join(dir, "a"), "old")
	create(t, filepath.Join(dir, "b"), "new")
	if err := os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("OLD"), 0); err != nil {
		t.Error(err)
	}
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "OLD" {
		t.Errorf("got %q, %v", b, err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 3 {
		t.Errorf("got %v, %v", info, err)
	}
	if err := errors.Join(f.Truncate(2), f.Sync()); err != nil {
		t.Error(err)
	}
	holds(t, filepath.Join(dir, "a"), "new")
}

func TestMapsAreCoherent(t *testing.T) {
	_, dir, behind := mount(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "FAULTFS_CHILD="+filepath.Join(dir, "map"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The same through the mount and past it.
	for _, in := range []string{dir, behind} {
		b, err := os.ReadFile(filepath.Join(in, "map"))
		if err != nil || len(b) != mapSize || b[len(b)-1] != 'z' {
			t.Errorf("got %d bytes, %v", len(b), err)
		}
	}
}

const mapSize = 1 << 20

// mapped writes a file as bbolt does, and reads it through a map.
func mapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// The map is larger than the file, which grows under it.
	m, err := unix.Mmap(int(f.Fd()), 0, mapSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	const page = 4096
	for at := int64(0); at < mapSize; at += page {
		if err := f.Truncate(at + page); err != nil {
			return err
		}
		for _, c := range []byte{'a', 'z'} {
			if _, err := f.WriteAt(bytes.Repeat([]byte{c}, page), at); err != nil {
				return err
			}
			if n := bytes.Count(m[at:at+page], []byte{c}); n != page {
				return fmt.Errorf("at %d the map holds %d of %d bytes that were written", at, n, page)
			}
		}
		if at%(16*page) == 0 {
			// Others that open and read it must not disturb the map.
			if _, err := os.ReadFile(path); err != nil {
				return err
			}
		}
	}
	if n := bytes.Count(m, []byte{'z'}); n != mapSize {
		return fmt.Errorf("the map holds %d of %d bytes", n, mapSize)
	}
	return unix.Munmap(m)
}

// bolted writes a bbolt file and reads it as another process would.
func bolted(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	for n := range 300 {
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return b.Put(fmt.Appendf(nil, "%04d", n), bytes.Repeat([]byte{'x'}, 3000))
		})
		if err != nil {
			return err
		}
	}
	if err := db.Close(); err != nil {
		return err
	}
	if db, err = bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second}); err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		if n := tx.Bucket([]byte("b")).Stats().KeyN; n != 300 {
			return fmt.Errorf("%d of 300 keys are there", n)
		}
		for err := range tx.Check() {
			return err
		}
		return nil
	})
}

// attempt does each operation once, in a directory that has the files a and b.
func attempt(dir string) map[Op]func() error {
	in := func(name string) string { return filepath.Join(dir, name) }
	withFile := func(do func(*os.File) error) error {
		f, err := os.OpenFile(in("a"), os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("opening, which no fault concerns: %w", err)
		}
		defer f.Close()
		return do(f)
	}
	return map[Op]func() error{
		Write: func() error {
			return withFile(func(f *os.File) error { _, err := f.WriteAt([]byte("12345678"), 0); return err })
		},
		Fsync:   func() error { return withFile((*os.File).Sync) },
		SyncDir: func() error { d, err := os.Open(dir); return errors.Join(err, d.Sync(), d.Close()) },
		Rename:  func() error { return os.Rename(in("b"), in("c")) },
		Create: func() error {
			f, err := os.OpenFile(in("new"), os.O_CREATE|os.O_EXCL, 0o600)
			_ = f.Close()
			return err
		},
		Unlink:   func() error { return unix.Unlink(in("b")) }, // os.Remove tries something else after an error
		Truncate: func() error { return os.Truncate(in("a"), 100) },
		Allocate: func() error {
			return withFile(func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, 9000) })
		},
	}
}

// effect says whether an operation of attempt was done.
func effect(t *testing.T, op Op, dir string) bool {
	t.Helper()
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return -1
		}
		return info.Size()
	}
	a, err := os.ReadFile(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	switch op {
	case Write:
		return string(a) == "12345678"
	case Rename:
		return size("b") < 0 && size("c") == 8
	case Create:
		return size("new") == 0
	case Unlink:
		return size("b") < 0
	case Truncate:
		return len(a) == 100
	case Allocate:
		return len(a) == 9000
	}
	return true // a sync cannot be seen
}

func TestEachFaultDoesWhatItSays(t *testing.T) {
	f, dir, behind := mount(t)
	ops := attempt(dir)
	for op, try := range ops {
		for _, other := range []Op{op, All} {
			fresh := func() {
				for _, n := range []string{"c", "new"} {
					_ = os.Remove(filepath.Join(behind, n))
				}
				for _, n := range []string{"a", "b"} {
					if err := os.WriteFile(filepath.Join(behind, n), []byte("........"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			name := func(k Kind) string { return fmt.Sprintf("%s, set by %s", Fault{Op: op, Kind: k}, other) }
			sync := op == Fsync || op == SyncDir
			for kind, want := range map[Kind]syscall.Errno{Error: syscall.EIO, Full: syscall.ENOSPC} {
				fresh()
				f.Set(Fault{Op: other, Kind: kind})
				if err := try(); !errors.Is(err, want) {
					t.Errorf("%s: got %v", name(kind), err)
				}
				if f.Hits() == 0 || !sync && effect(t, op, behind) {
					t.Errorf("%s: %d hits, done: %t", name(kind), f.Hits(), effect(t, op, behind))
				}
				f.Heal()
				if err := try(); err != nil || !effect(t, op, behind) {
					t.Errorf("%s, healed: got %v, done: %t", name(kind), err, effect(t, op, behind))
				}
			}

			fresh()
			f.Set(Fault{Op: other, Kind: Doubt})
			if err := try(); !errors.Is(err, syscall.EIO) || !effect(t, op, behind) {
				t.Errorf("%s: got %v, done: %t", name(Doubt), err, effect(t, op, behind))
			}
			f.Heal()

			fresh()
			f.Set(Fault{Op: other, Kind: Slow, Delay: 50 * time.Millisecond})
			start := time.Now()
			if err := try(); err != nil || time.Since(start) < 50*time.Millisecond || !effect(t, op, behind) {
				t.Errorf("%s: got %v after %s, done: %t", name(Slow), err, time.Since(start), effect(t, op, behind))
			}

			fresh()
			f.Set(Fault{Op: other, Kind: Hang})
			ended := make(chan error, 1)
			go func() { ended <- try() }()
			for f.Hits() == 0 {
				time.Sleep(time.Millisecond)
			}
			select {
			case err := <-ended:
				t.Errorf("%s: ended with %v", name(Hang), err)
			case <-time.After(20 * time.Millisecond):
			}
			if !sync && effect(t, op, behind) {
				t.Errorf("%s: was done while it hung", name(Hang))
			}
			f.Heal()
			if err := <-ended; err != nil || !effect(t, op, behind) {
				t.Errorf("%s, healed: got %v, done: %t", name(Hang), err, effect(t, op, behind))
			}
		}
	}
}

func TestAFaultLeavesOtherOperationsAlone(t *testing.T) {
	f, dir, behind := mount(t)
	ops := attempt(dir)
	for faulty := range ops {
		f.Set(Fault{Op: faulty, Kind: Error})
		for op, try := range ops {
			_ = os.Remove(filepath.Join(behind, "new"))
			for _, n := range []string{"a", "b"} {
				if err := os.WriteFile(filepath.Join(behind, n), []byte("........"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := try(); (err != nil) != (op == faulty) {
				t.Errorf("while %s fails, %s: got %v", faulty, op, err)
			}
		}
	}
}

func TestAShortWriteSaysSo(t *testing.T) {
	f, dir, behind := mount(t)
	file := create(t, filepath.Join(dir, "a"), "")
	f.Set(Fault{Op: Write, Kind: Short, Nth: 1})
	if n, err := unix.Pwrite(int(file.Fd()), []byte("12345678"), 0); n != 4 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	holds(t, filepath.Join(behind, "a"), "1234")
	if n, err := unix.Pwrite(int(file.Fd()), []byte("5678"), 4); n != 4 || err != nil {
		t.Errorf("the next: got %d, %v", n, err)
	}
	holds(t, filepath.Join(dir, "a"), "12345678")
	f.Set(Fault{Op: Write, Kind: Short})
	if _, err := file.WriteAt([]byte("abcdefgh"), 0); err == nil {
		t.Error("a disk that only ever takes a half took all")
	}
}

func TestNthAndChance(t *testing.T) {
	f, dir, _ := mount(t)
	file := create(t, filepath.Join(dir, "a"), "x")
	failed := func() (n []int) {
		for i := range 200 {
			if file.Sync() != nil {
				n = append(n, i)
			}
		}
		return n
	}
	f.Set(Fault{Op: Fsync, Kind: Error, Nth: 3})
	if n := failed(); len(n) != 1 || n[0] != 2 || f.Hits() != 1 {
		t.Errorf("the third: %v failed", n)
	}
	f.Set(Fault{Op: Fsync, Kind: Error, Chance: 0.5})
	if n := failed(); len(n) < 40 || len(n) > 160 || f.Hits() != len(n) {
		t.Errorf("a chance of a half: %d of 200 failed, %d hits", len(n), f.Hits())
	}
}

func TestUnmountHeals(t *testing.T) {
	dir, behind := t.TempDir(), t.TempDir()
	f, err := Mount(dir, behind)
	if err != nil {
		t.Fatal(err)
	}
	f.Set(Fault{Op: Create, Kind: Hang})
	ended := make(chan error)
	go func() { ended <- os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600) }()
	for f.Hits() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := f.Unmount(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	holds(t, filepath.Join(behind, "a"), "x")
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still mounted: %v", err)
	}
}
