package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-audit-log/caddy-audit-log/buffer"
	"github.com/caddy-audit-log/caddy-audit-log/internal/machine"
)

// Buffer is the buffer as a doctor sees it: where it is or will be, and what it may need.
// Bytes and times that are zero are the buffer's own defaults.
type Buffer struct {
	Directory                     string
	MaxSize, MinFree, SegmentSize int64
	MaxWait                       time.Duration
}

// Disk looks at what the buffer lies on.
func (b *Buffer) Disk() []Diagnosis {
	at := machine.Nearest(b.Directory)
	f, err := machine.FilesystemOf(at)
	if err != nil {
		return []Diagnosis{NotKnown("what %s lies on: %v", at, err).Mend("see to it that it is a local disk whose fsync can be trusted")}
	}
	need := diskNeed{
		maxSize: cmp.Or(b.MaxSize, buffer.DefaultMaxSize), minFree: cmp.Or(b.MinFree, min(buffer.DefaultMinFree, f.Total/20)),
		segment: cmp.Or(b.SegmentSize, buffer.DefaultSegmentSize), used: machine.BytesIn(b.Directory),
	}
	list := []Diagnosis{kindFinding(f.Kind, at), need.space(f)}
	if f.Inodes > 0 {
		list = append(list, need.inodes(f))
	}
	return list
}

// kindFinding says whether a buffer may be on a kind of file system.
func kindFinding(kind, at string) Diagnosis {
	const cure = "put the buffer on a local disk"
	switch {
	case machine.IsNetwork(kind):
		return Wrong("%s is on %s, a network file system: whether a sync has reached a disk, and whether a lock holds, is not certain there", at, kind).Mend(cure)
	case machine.IsMemory(kind):
		return Wrong("%s is on %s: it is gone with the machine's power, and what is not delivered with it", at, kind).Mend(cure)
	case kind == "overlay" || kind == "aufs":
		return Warning("%s is on %s, a container's own layer: it goes with the container", at, kind).Mend("mount a volume there")
	case kind == "fuse":
		return Warning("%s is on a FUSE file system, which may be a network's", at).Mend("see what is mounted there; %s", cure)
	}
	return Fine("%s is on %s", at, kind)
}

// diskNeed is what the buffer may need of its disk, in bytes.
type diskNeed struct{ maxSize, minFree, segment, used int64 }

func (n diskNeed) space(f machine.Filesystem) Diagnosis {
	size := func(b int64) string { return humanize.IBytes(uint64(max(0, b))) }
	more := max(0, n.maxSize-n.used)
	switch {
	case f.Free < n.minFree:
		return Wrong("%s are free, which is less than min_free, %s: the buffer counts as full, and calls are refused", size(f.Free), size(n.minFree)).
			Mend("free some of it, or lower min_free")
	case f.Free-n.minFree < more:
		return Warning("%s are free; the buffer may need %s more of it, and leaves %s to others: the disk is full before max_size is reached", size(f.Free), size(more), size(n.minFree)).
			Mend("give it a larger disk, or lower max_size, %s; \"caddy audit size\" says what you need", size(n.maxSize))
	}
	return Fine("%s are free, of which the buffer may need %s and leaves %s to others", size(f.Free), size(more), size(n.minFree))
}

func (n diskNeed) inodes(f machine.Filesystem) Diagnosis {
	need := uint64(n.maxSize/max(n.segment, 1)) + 64
	if f.FreeInodes < need {
		return Wrong("%s inodes are free, and the buffer may need %s: a new segment cannot be made", humanize.Comma(int64(f.FreeInodes)), humanize.Comma(int64(need))).
			Mend("remove small files from that file system, or make it anew with more inodes")
	}
	return Fine("%s inodes are free", humanize.Comma(int64(min(f.FreeInodes, 1<<62))))
}

const (
	// syncsOfCommit is how often the buffer syncs in one commit at most: in the first
	// megabyte after a start, and on systems other than Linux. Else it syncs once. A changing
	// call waits for two commits, and another call for one.
	syncsOfCommit = 2
	// slowSync is what one sync may take until calls feel it, and fastSync what none takes
	// that reaches a disk.
	slowSync = 20 * time.Millisecond
	fastSync = 15 * time.Microsecond
)

// Sync measures how fast the buffer's disk makes something durable, and gives up after a time.
func (b *Buffer) Sync(ctx context.Context, within time.Duration) []Diagnosis {
	at := machine.Nearest(b.Directory)
	times, err := InTime(ctx, within, func() ([]time.Duration, error) { return machine.SyncTimes(at) })
	if errors.Is(err, context.DeadlineExceeded) {
		return []Diagnosis{Wrong("the disk of %s did not sync a block within %s", at, within).Mend("look at the disk, and at who else writes to it")}
	}
	if err != nil {
		return []Diagnosis{NotKnown("how fast %s syncs: %v", at, err).Mend("run this as the server's user")}
	}
	return []Diagnosis{syncFinding(times, cmp.Or(b.MaxWait, buffer.DefaultMaxWait))}
}

// InTime waits for something that heeds no context.
func InTime[T any](ctx context.Context, within time.Duration, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := do()
		done <- result{value, err}
	}()
	late := time.NewTimer(within)
	defer late.Stop()
	var none T
	select {
	case r := <-done:
		return r.value, r.err
	case <-late.C:
		return none, context.DeadlineExceeded
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// syncFinding says what the times mean for a call. There is at least one.
func syncFinding(times []time.Duration, maxWait time.Duration) Diagnosis {
	times = slices.Sorted(slices.Values(times))
	median, worst := times[len(times)/2], times[len(times)-1]
	seen := fmt.Sprintf("a sync takes %s, at worst %s of %d: a changing call waits about %s for its record, another one %s",
		shortTime(median), shortTime(worst), len(times), shortTime(2*syncsOfCommit*median), shortTime(syncsOfCommit*median))
	switch {
	case syncsOfCommit*worst > maxWait:
		return Wrong("%s; a commit that takes longer than max_wait, %s, counts as a fault", seen, maxWait).
			Mend("give the buffer a disk of its own, or a faster one; raise max_wait if calls may wait for so long")
	case median > slowSync:
		return Warning("%s", seen).Mend("give the buffer a faster disk, such as an SSD with power-loss protection")
	case median < fastSync:
		return Warning("%s; no disk is that fast, so that a power cut may take what was said to be durable", seen).
			Mend("see whether the file system, the hypervisor or the disk's own cache ignores a sync")
	}
	return Fine("%s", seen)
}

// shortTime has no more digits than mean something.
func shortTime(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > 10*time.Millisecond:
		return d.Round(time.Millisecond)
	case d > time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
