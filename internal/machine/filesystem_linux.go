package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// filesystemKinds are those of linux/magic.h that somebody may put a buffer on.
var filesystemKinds = map[uint32]string{
	0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x2fc12fc1: "zfs", 0xf2f52010: "f2fs", 0xca451a4e: "bcachefs", 0x52654973: "reiserfs",
	0x3153464a: "jfs", 0x4d44: "vfat", 0x2011bab0: "exfat", 0x7366746e: "ntfs3", 0x794c7630: "overlay", 0x65735546: "fuse", 0x61756673: "aufs",
	0x1021994: "tmpfs", 0x858458f6: "ramfs", 0x958458f6: "hugetlbfs",
	0x6969: "nfs", 0xff534d42: "cifs", 0xfe534d42: "smb2", 0x517b: "smb", 0x1021997: "9p", 0x5346414f: "afs", 0x6b414653: "afs", 0xc36400: "ceph",
	0x73757245: "coda", 0xbd00bd0: "lustre", 0x47504653: "gpfs", 0x564c: "ncp", 0x786f4256: "vboxsf", 0x7461636f: "ocfs2", 0x1161970: "gfs2",
}

// FilesystemOf asks the system once; a file system that hangs keeps it waiting.
func FilesystemOf(path string) (f Filesystem, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return f, err
	}
	magic := uint32(st.Type)
	if f.Kind = filesystemKinds[magic]; f.Kind == "" {
		f.Kind = fmt.Sprintf("%#x", magic)
	}
	f.Free, f.Total = int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	f.FreeInodes, f.Inodes = st.Ffree, st.Files
	return f, nil
}
