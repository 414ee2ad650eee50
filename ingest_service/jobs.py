"""Files as jobs on disk: the bytes, and how far they got.

A folder per job: `data.csv` while there is work left, and `job.json`, replaced atomically. The bytes are
complete before `job.json` exists, so a folder without it is an upload that broke off.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Literal

import orjson

_JOB: Final = "job.json"
_DATA: Final = "data.csv"
_LOCK: Final = "lock"

State = Literal["running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Job:
    """`rows`: records of the file that the broker has acknowledged, from the first on without gap."""

    job_id: str
    load_id: str
    name: str
    source: str
    currency: str
    traceparent: str
    created_ms: int
    bytes: int
    state: State = "running"
    rows: int = 0
    accepted: int = 0
    quarantined: int = 0
    error: str | None = None


class InUse(RuntimeError):  # noqa: N818 - says what is the case
    """Another process holds the jobs."""


class JobStore:
    """Thread-safe by using a folder per job and one writer per job at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: BinaryIO | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def lock(self) -> None:
        """Until `unlock` or the end of the process. Raises `InUse`: two processes that work on one file
        would produce its lines twice."""
        lock = (self._folder / _LOCK).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise InUse(f"another process works on the files in {self._folder}") from error
        self._lock = lock

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def begin(self) -> Upload:
        return Upload(self._folder / str(uuid.uuid4()))

    def save(self, job: Job) -> None:
        """Durable when this returns."""
        folder = self._folder / job.job_id
        part = folder / f"{_JOB}.part"
        with part.open("wb") as file:
            file.write(orjson.dumps(asdict(job)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / _JOB)
        _sync_folder(folder)

    def get(self, job_id: str) -> Job | None:
        """None for an id that is not known, whatever it looks like."""
        try:
            path = self._folder / str(uuid.UUID(job_id)) / _JOB
            return Job(**orjson.loads(path.read_bytes()))
        except (ValueError, FileNotFoundError):
            return None

    def open_data(self, job: Job) -> BinaryIO:
        return (self._folder / job.job_id / _DATA).open("rb")

    def finish(self, job: Job) -> None:
        """Save the end of the job, then let its bytes go."""
        self.save(job)
        (self._folder / job.job_id / _DATA).unlink(missing_ok=True)

    def recover(self, keep: int) -> list[Job]:
        """Unfinished jobs, oldest first. Broken uploads go, and all but the newest `keep` finished jobs."""
        jobs = []
        for folder in self._folders():
            job = self.get(folder.name)
            if job is None:
                shutil.rmtree(folder)
            else:
                jobs.append(job)
        jobs.sort(key=lambda job: job.created_ms)
        finished = [job for job in jobs if job.state != "running"]
        for job in finished[: max(0, len(finished) - keep)]:
            shutil.rmtree(self._folder / job.job_id)
        return [job for job in jobs if job.state == "running"]

    def _folders(self) -> Iterator[Path]:
        return (path for path in self._folder.iterdir() if path.is_dir())


class Upload:
    """The bytes of a job while they arrive."""

    def __init__(self, folder: Path) -> None:
        self.job_id = folder.name
        self._folder = folder
        folder.mkdir()
        self._file = (folder / _DATA).open("wb")
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes += len(data)

    def complete(self) -> None:
        """Every byte durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def advanced(job: Job, *, rows: int, accepted: int, quarantined: int) -> Job:
    return replace(
        job,
        rows=rows,
        accepted=job.accepted + accepted,
        quarantined=job.quarantined + quarantined,
        error=None,
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
