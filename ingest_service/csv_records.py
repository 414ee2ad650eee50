"""From a stream of CSV bytes to records with their original bytes, block by block, in bounded memory.

RFC 4180, and a quote inside a field that does not begin with one is plain text, as spreadsheets write it.
A line that opens a quoted field takes in the lines after it until the field closes. One that never does
within MAX_LINES and MAX_BYTES is broken by itself: the next record begins on the line after it, so that one
stray quote costs one line and not the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

import numpy as np
import polars as pl
import pyarrow as pa

from ingest_service import columns

BLOCK_BYTES: Final = 4 << 20
MAX_LINES: Final = 1000
MAX_BYTES: Final = 1 << 20

RECORDS: Final = pl.Schema(
    {"payload": pl.Binary, "text": pl.String, "line": pl.Int64, "quoted": pl.Boolean, "flaw": pl.String}
)
"""`payload`: without the line end. `text`: null where the bytes are not UTF-8. `line`: of the file, from 1,
where the record begins. `quoted`: it holds a quote. `flaw`: why it is no record, else null."""

FIELD: Final = r'(?:"(?:[^"]|"")*"|[^",][^,]*|)'
_CLOSED: Final = rf"^(?s:{FIELD}(?:,{FIELD})*)$"
_OPEN: Final = rf'^(?s:(?:{FIELD},)*"(?:[^"]|"")*)$'
# For the few lines inside a quoted field; the quantifiers are possessive, so that no text takes long.
_FIELD_TAIL: Final = r'(?:"(?:[^"]|"")*+"|[^",][^,]*+|)'
_TAIL_CLOSED: Final = re.compile(rf'(?:[^"]|"")*+"(?:,{_FIELD_TAIL})*', re.DOTALL)
_TAIL_OPEN: Final = re.compile(rf'(?:[^"]|"")*+(?:"(?:,{_FIELD_TAIL})*,"(?:[^"]|"")*+)?', re.DOTALL)

_UNCLOSED: Final = "a quoted field is opened and not closed; close it, or double a quote inside it"
_MISQUOTED: Final = "there is text after the closing quote of a field; double a quote inside a field"
_NUL: Final = "there is a zero byte, which databases refuse; remove it"
_RUNS_ON: Final = "a quoted field runs into a line that is not UTF-8; save the file as UTF-8"
_NOT_UTF8: Final = "not UTF-8; save the file as UTF-8"


class LineTooLong(Exception):  # noqa: N818 - an answer about a file, not a fault
    """One line is over MAX_BYTES, so this is no CSV of sales; cutting it could make up a sale."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} is longer than {MAX_BYTES} bytes; is this a CSV file?")


def records(stream: BinaryIO, block_bytes: int = BLOCK_BYTES) -> Iterator[pl.DataFrame]:
    """Frames of RECORDS in the order of the file, blank lines left out. Raises `LineTooLong`."""
    rest, line = b"", 1
    while True:
        block = stream.read(block_bytes)
        data, last = rest + block, not block
        cut = len(data) if last else data.rfind(b"\n") + 1
        lines = _lines(data[:cut], line)
        if len(data) - cut > MAX_BYTES:
            raise LineTooLong(line + lines.height)
        frame, taken = _records(lines, last)
        # Lines of a quoted field that may still close come again, before the next block.
        rest = b"".join(lines["payload"].slice(taken)) + data[cut:]
        line += taken
        if frame.height:
            yield frame
        if last:
            return


def _lines(data: bytes, first: int) -> pl.DataFrame:
    """Physical lines with their ends, over the bytes themselves."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")) + 1
    tail = [] if (len(ends) and ends[-1] == len(data)) or not data else [len(data)]
    bounds = np.concatenate([[0], ends, tail]).astype(np.int64)
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(data)]
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(bounds) - 1, buffers)
    longest = np.diff(bounds).max(initial=0)
    if longest > MAX_BYTES:
        raise LineTooLong(first + int(np.diff(bounds).argmax()))
    numbers = np.arange(first, first + len(bounds) - 1, dtype=np.int64)
    return pl.DataFrame({"payload": pl.from_arrow(array), "line": numbers})


def _records(lines: pl.DataFrame, last: bool) -> tuple[pl.DataFrame, int]:
    """The records of these lines, and how many lines they took."""
    text = columns.utf8(lines["payload"]).str.strip_suffix("\n").str.strip_suffix("\r")
    quoted = text.str.contains('"', literal=True).fill_null(False)
    frame = lines.with_columns(
        pl.Series("text", text),
        pl.Series("quoted", quoted),
        flaw=pl.when(text.is_null())
        .then(pl.lit(_NOT_UTF8))
        .when(text.str.contains("\x00", literal=True))
        .then(pl.lit(_NUL)),
    )
    closed = ~quoted | text.str.contains(_CLOSED).fill_null(False)
    if not closed.all():
        return _joined(frame, closed, last)
    return _finished(frame), lines.height


def _joined(frame: pl.DataFrame, closed: pl.Series, last: bool) -> tuple[pl.DataFrame, int]:
    """Records of several lines put together: only the lines that do not end what they open are looked at
    one by one, and each of them once."""
    text, payload = frame["text"], frame["payload"]
    opens = text.str.contains(_OPEN).fill_null(False)
    within: set[int] = set()
    flaws: dict[int, str] = {}
    whole: dict[int, tuple[bytes, str]] = {}
    taken = frame.height
    for start in (~closed).arg_true().to_list():
        if start in within:
            continue
        if not opens[start]:
            flaws[start] = _MISQUOTED
            continue
        end, flaw = _end_of(text, start)
        if end is None and flaw is None and not last:
            taken = start
            break
        if end is None:
            flaws[start] = flaw or _UNCLOSED
            continue
        within.update(range(start + 1, end + 1))
        parts = payload.slice(start, end - start + 1).to_list()
        joined = b"".join(parts).removesuffix(b"\n").removesuffix(b"\r")
        whole[start] = (joined, joined.decode())
    head = frame.with_row_index("at").head(taken).filter(~pl.col("at").is_in(list(within)))
    changed = pl.DataFrame(
        {
            "at": [*whole, *flaws],
            "payload_": [p for p, _ in whole.values()] + [None] * len(flaws),
            "text_": [t for _, t in whole.values()] + [None] * len(flaws),
            "flaw_": [None] * len(whole) + [*flaws.values()],
        },
        schema={"at": pl.UInt32, "payload_": pl.Binary, "text_": pl.String, "flaw_": pl.String},
    )
    merged = head.join(changed, on="at", how="left", maintain_order="left").with_columns(
        pl.coalesce(f"{name}_", name).alias(name) for name in ("payload", "text", "flaw")
    )
    return _finished(merged), taken


def _end_of(text: pl.Series, start: int) -> tuple[int | None, str | None]:
    """Line on which the record that `start` opens ends, or None with a flaw if it cannot be closed, or None
    without one if the lines ran out."""
    size = len(text[start])
    for at in range(start + 1, min(start + MAX_LINES, len(text))):
        line = text[at]
        if line is None:
            return None, _RUNS_ON
        size += len(line)
        if size > MAX_BYTES:
            return None, _UNCLOSED
        if _TAIL_OPEN.fullmatch(line):
            continue
        if _TAIL_CLOSED.fullmatch(line):
            return at, None
        return None, _UNCLOSED
    return None, _UNCLOSED if start + MAX_LINES <= len(text) else None


def _finished(frame: pl.DataFrame) -> pl.DataFrame:
    payload = pl.col("payload")
    without_end = (
        pl.when(payload.bin.ends_with(b"\r\n"))
        .then(payload.bin.slice(0, payload.bin.size() - 2))
        .when(payload.bin.ends_with(b"\n"))
        .then(payload.bin.slice(0, payload.bin.size() - 1))
        .otherwise(payload)
    )
    kept = frame.filter(pl.col("text").str.contains(r"[^ \t]").fill_null(True))
    return kept.with_columns(payload=without_end).select(RECORDS.names())
