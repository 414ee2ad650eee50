"""The year that is made of a part of it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from bench.chain.year_file import source_lines, year
from bench.transform.dataset import SAMPLES


def test_a_year_has_its_lines_and_no_invoice_of_two_copies_meets() -> None:
    source = source_lines(SAMPLES)
    made = year(source, 3 * source.height - 5)
    assert made.height == 3 * source.height - 5
    lines = source["InvoiceNo"].n_unique()
    assert year(source, 2 * source.height)["InvoiceNo"].n_unique() == 2 * lines
    assert made.head(source.height).equals(source)


def test_only_number_and_date_of_an_invoice_change_and_a_cancellation_stays_one() -> None:
    source = source_lines(SAMPLES)
    later = year(source, 2 * source.height).tail(source.height)
    rest = [name for name in source.columns if name not in ("InvoiceNo", "InvoiceDate")]
    assert later.select(rest).equals(source.select(rest))
    cancels = pl.col("InvoiceNo").str.starts_with("C")
    assert later.select(cancels).equals(source.select(cancels))
    assert source.select(cancels.any()).item()
    assert later["InvoiceDate"].str.slice(10).equals(source["InvoiceDate"].str.slice(10))
    assert (later["InvoiceDate"] > source["InvoiceDate"]).all()


def test_a_year_lies_within_a_year_and_is_the_same_each_time() -> None:
    source = source_lines(SAMPLES)
    made = year(source)
    assert made.equals(year(source))
    days = made["InvoiceDate"].str.to_datetime().dt.date()
    first, last = days.min(), days.max()
    assert first is not None
    assert (last - first).days <= 370  # type: ignore[operator, union-attr]


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no"):
        source_lines(tmp_path)
