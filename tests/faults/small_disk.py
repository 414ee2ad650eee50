"""A folder of the platform on a disk of its own, which can be filled to the last byte."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.world import World

_ROOM = "3g"
_KIB = 1024


class SmallDisk:
    """A tmpfs. It is resized under its user, as a disk that somebody else fills and empties."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def full(self) -> Iterator[None]:
        """Nothing more can be written within the block: the very next page is refused."""
        for _ in range(50):
            disk = os.statvfs(self._folder)
            used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            try:
                _mount("-o", f"remount,size={used // _KIB}k", str(self._folder))
                break
            except subprocess.CalledProcessError:
                continue  # its user has written something meanwhile
        assert os.statvfs(self._folder).f_bavail == 0
        try:
            yield
        finally:
            _mount("-o", f"remount,size={_ROOM}", str(self._folder))


@contextmanager
def small_disk(world: World, writers: Sequence[str], folder: Path) -> Iterator[SmallDisk]:
    """Moves a folder to a disk of its own, and back; those who write to it are stopped for that."""
    beside = folder.with_name(f"{folder.name}.on-disk")
    with _stopped(world, writers):
        folder.rename(beside)
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={_ROOM},mode=755", "tillstream-test", str(folder))
        shutil.copytree(beside, folder, dirs_exist_ok=True, symlinks=True)
    try:
        yield SmallDisk(folder)
    finally:
        with _stopped(world, writers):
            shutil.rmtree(beside)
            shutil.copytree(folder, beside, symlinks=True)
            # Lazily: readers of other services may have a file open.
            subprocess.run(["umount", "-l", str(folder)], check=True)
            folder.rmdir()
            beside.rename(folder)


@contextmanager
def _stopped(world: World, services: Sequence[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for service in services:
            stack.enter_context(world.stopped(service))
        yield


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
