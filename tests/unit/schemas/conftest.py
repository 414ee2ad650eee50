from __future__ import annotations

from collections.abc import Iterator

import pytest

from native import build
from schemas import native_avro


@pytest.fixture(scope="module", params=["native", "python"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """What decodes and encodes: the native library, or pyruhvro and fastavro."""
    build.build()
    native_avro.available.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(native_avro, "available", lambda: False)
        else:
            assert native_avro.available()
        yield request.param
