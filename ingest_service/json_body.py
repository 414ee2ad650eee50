"""From the bytes of a request to one column of items, each with its original bytes. No value is read here.

An array is cut at the commas of its first level, found by counting brackets and quotes over the bytes: that
decides nothing about the items, which are parsed afterwards. If every piece is JSON, the array was.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from ingest_service.careful import NotJson

BOM: Final = b"\xef\xbb\xbf"
JSON_SPACE: Final = b" \t\r\n"

_MAX_DEPTH: Final = 64
_BLOCK: Final = 1 << 20
_QUOTE, _BACKSLASH, _COMMA = 34, 92, 44
_DEPTH_STEP: Final = np.zeros(256, dtype=np.int8)
_DEPTH_STEP[[ord("{"), ord("[")]] = 1
_DEPTH_STEP[[ord("}"), ord("]")]] = -1
_STRUCTURAL: Final = (_DEPTH_STEP != 0) | (np.arange(256) == _COMMA)

Offsets = NDArray[np.int64]


class TooManyItems(Exception):  # noqa: N818 - an answer, not a fault
    """More items than one request may hold."""


def lines(body: bytes, limit: int) -> pl.Series:
    """NDJSON: one item a line, the line end included, lines of white space left out."""
    if body.count(b"\n") > 2 * limit:  # blank lines do not count, but are bounded too
        raise TooManyItems
    ends = np.flatnonzero(np.frombuffer(body, dtype=np.uint8) == ord("\n")) + 1
    bounds = np.concatenate([[0], ends, [len(body)]]).astype(np.int64)
    items = _slices(body, bounds)
    kept = items.filter(~_blank(items))
    if len(kept) > limit:
        raise TooManyItems
    return kept


def document(body: bytes, limit: int) -> pl.Series:
    """A JSON object as one item, or the items of an array, white space around them included.

    Raises `NotJson` where the frame of the array is broken; the items may be so too.
    """
    start = len(body) - len(body.lstrip(JSON_SPACE))
    first = body[start : start + 1]
    if first == b"{":
        return pl.Series([body], dtype=pl.Binary)
    if first != b"[":
        raise NotJson("a JSON object or array is expected", start)
    separators = _first_level(body, start, limit)
    starts, ends = separators[:-1] + 1, separators[1:]
    if len(starts) == 1 and not body[starts[0] : ends[0]].strip(JSON_SPACE):
        return pl.Series([], dtype=pl.Binary)
    # Each slice includes the comma or bracket behind it, so that the slices lie end to end; then it goes.
    slices = pl.DataFrame({"item": _slices(body, np.append(starts, ends[-1] + 1)), "size": ends - starts})
    return slices.select(pl.col("item").bin.slice(0, pl.col("size"))).to_series()


def start_of(body: bytes, items: pl.Series, index: int) -> int:
    """Position in the body of an item of `document`: the items of an array lie one byte apart."""
    start = len(body) - len(body.lstrip(JSON_SPACE))
    if body[start : start + 1] != b"[":
        return 0
    before = items.head(index).bin.size().cast(pl.Int64)
    return start + 1 + int(before.sum()) + index


def _first_level(body: bytes, start: int, limit: int) -> Offsets:
    """Positions of the opening bracket, the commas of the first level, and the closing bracket."""
    found: list[Offsets] = [np.array([start], dtype=np.int64)]
    inside, escaped, depth = 0, False, 0
    data = np.frombuffer(body, dtype=np.uint8)
    for low in range(start, len(body), _BLOCK):
        block = data[low : low + _BLOCK]
        quotes, escaped = _quotes(block, escaped)
        within = (np.cumsum(quotes, dtype=np.int64) + inside) & 1
        inside = int(within[-1])
        places = np.flatnonzero(_STRUCTURAL[block] & (within == 0))
        levels = np.cumsum(_DEPTH_STEP[block[places]], dtype=np.int64) + depth
        _check_levels(levels, places + low)
        depth = int(levels[-1]) if len(levels) else depth
        commas = (block[places] == _COMMA) & (levels == 1)
        # The opening bracket is the first structural byte; only the closing one comes back to level 0.
        found.append(places[commas | (levels == 0)] + low)
        if sum(map(len, found)) > limit + 1:
            raise TooManyItems
        if (levels == 0).any():
            end = int(found[-1][-1])
            _check_tail(body, end)
            return np.concatenate(found)
    raise NotJson("the array is not closed", len(body))


def _quotes(block: NDArray[np.uint8], escaped: bool) -> tuple[NDArray[np.bool_], bool]:
    """Which bytes are quotes that open or close a string, and whether the next block begins escaped."""
    quotes = block == _QUOTE
    slashes = block == _BACKSLASH
    if not slashes.any():
        if escaped:
            quotes[0] = False
        return quotes, False
    index = np.arange(len(block))
    # Length of the run of backslashes that ends at each byte; one from the block before counts too.
    last_other = np.maximum.accumulate(np.where(slashes, -1, index))
    run = np.where(last_other >= 0, index - last_other, index + 1 + int(escaped))
    before = np.concatenate([[int(escaped)], run[:-1]])
    return quotes & (before % 2 == 0), bool(run[-1] % 2)


def _check_levels(levels: Offsets, places: Offsets) -> None:
    if len(levels) == 0:
        return
    if levels.max() > _MAX_DEPTH:
        position = int(places[np.argmax(levels > _MAX_DEPTH)])
        raise NotJson(f"nested deeper than {_MAX_DEPTH} levels", position)
    closed = np.flatnonzero(levels == 0)
    if len(closed) and closed[0] != len(levels) - 1:
        raise NotJson("there is more after the end of the array", int(places[closed[0]]) + 1)


def _check_tail(body: bytes, end: int) -> None:
    tail = body[end + 1 :]
    if tail.strip(JSON_SPACE):
        raise NotJson("there is more after the end of the array", end + 1)
    if body[end : end + 1] != b"]":
        raise NotJson("the array is closed by the wrong bracket", end)


def _slices(body: bytes, bounds: Offsets) -> pl.Series:
    """A Binary column over the body itself: slice i runs from bound i to bound i + 1."""
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(body)]
    array = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(bounds) - 1, buffers)
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series


def _blank(items: pl.Series) -> pl.Series:
    """JSON's white space only. Most lines are told by their first byte."""
    first = items.bin.slice(0, 1)
    suspects = first.is_in([b"", *(JSON_SPACE[i : i + 1] for i in range(len(JSON_SPACE)))])
    if not suspects.any():
        return suspects
    blank = [i for i in suspects.arg_true() if not items[i].strip(JSON_SPACE)]
    return pl.Series(np.isin(np.arange(len(items)), blank))
