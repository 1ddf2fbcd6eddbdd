"""A FUSE file system whose files fail from a byte on, as their names state: ``5_393216_x.mp4`` gives error number 5
behind its first 393,216 bytes, and ``0_393216_x.mp4`` no answer at all, which holds who reads there, deaf even to
SIGKILL, until the file system is gone. Run as ``python failing_files.py FOLDER MOUNTPOINT``; stays until unmounted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(behind: Path, mount: Path) -> Iterator[Path]:
    """The files of the folder ``behind`` as ``mount``; the test is skipped where that cannot be had."""
    try:
        import fuse  # noqa: F401
    except (ImportError, OSError):
        pytest.skip("needs fusepy and libfuse")
    server = subprocess.Popen([sys.executable, __file__, str(behind), str(mount)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not os.path.ismount(mount) and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if not os.path.ismount(mount):
            pytest.skip("no file system can be mounted here")
        yield mount
    finally:
        server.kill()  # ends all reads that it has not answered
        server.wait(10)
        subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)


def serve(folder: str, mount: str) -> None:
    import fuse

    class FailingFiles(fuse.Operations):
        def getattr(self, path: str, fh: int | None = None) -> dict[str, float]:
            about = os.lstat(folder + path)
            names = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid")
            return {name: getattr(about, name) for name in names}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(folder + path)]

        def open(self, path: str, flags: int) -> int:
            return os.open(folder + path, flags)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            number, whole, _ = os.path.basename(path).split("_", 2)
            if offset + size > int(whole):
                if int(number) == 0:
                    time.sleep(3600)
                raise fuse.FuseOSError(int(number))
            return os.pread(fh, size, offset)

        def release(self, path: str, fh: int) -> None:
            os.close(fh)

    # Each read is asked for by who reads: the kernel's reading ahead, for whom it waits, could be killed.
    fuse.FUSE(FailingFiles(), mount, foreground=True, direct_io=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
