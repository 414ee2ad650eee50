"""Recognises the platform's own heartbeats among the records of a batch, without decoding them."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamkit.ports import RecordBatch

KEY_PREFIX: Final = b"tillstream.heartbeat/"
"""As `schemas.heartbeat.PREFIX`, which a test compares: this package knows no schema."""


def heartbeats(batch: RecordBatch) -> NDArray[np.intp]:
    """Places of the records whose key says that they are heartbeats."""
    # Keys that are a column already are taken as they are.
    keys = getattr(batch.key, "array", None)
    column = pa.array(batch.key, pa.large_binary()) if keys is None else keys
    found = pc.fill_null(pc.starts_with(column, pattern=KEY_PREFIX), fill_value=False)
    return np.flatnonzero(found.to_numpy(zero_copy_only=False))
