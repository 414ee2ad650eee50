"""Where the buffers of Arrow arrays lie, for the native library."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_OFFSET_BYTES = 8
_NONE = np.zeros(1, np.uint8)

Parts = tuple[NDArray[np.int64], NDArray[np.uint8], "NDArray[np.uint8] | None", int]


def parts(array: Any) -> Parts:
    """Of a LargeBinary array: offsets (one more than rows), data, and where there are nulls the bitmap and
    the bit of row 0."""
    if len(array) == 0:
        return np.zeros(1, np.int64), _NONE, None, 0
    valid, offsets, data = array.buffers()
    return (
        np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * _OFFSET_BYTES),
        np.frombuffer(data, np.uint8) if data is not None and data.size else _NONE,
        np.frombuffer(valid, np.uint8) if valid is not None and array.null_count else None,
        array.offset,
    )
