"""A FUSE file system whose files give an error from a byte on, which their names state: ``5_393216_x.mp4`` gives error
number 5 behind its first 393,216 bytes. Run as ``python failing_files.py FOLDER MOUNTPOINT``; stays until unmounted."""

from __future__ import annotations

import os
import sys

import fuse


class FailingFiles(fuse.Operations):
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def getattr(self, path: str, fh: int | None = None) -> dict[str, float]:
        about = os.lstat(self.folder + path)
        names = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid")
        return {name: getattr(about, name) for name in names}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.folder + path)]

    def open(self, path: str, flags: int) -> int:
        return os.open(self.folder + path, flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        number, whole, _ = os.path.basename(path).split("_", 2)
        if offset + size > int(whole):
            raise fuse.FuseOSError(int(number))
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)


if __name__ == "__main__":
    fuse.FUSE(FailingFiles(sys.argv[1]), sys.argv[2], foreground=True, nothreads=True)
