"""What COPY is given."""

from __future__ import annotations

import csv
import datetime as dt
import io

import polars as pl

from gold_writer.warehouse.columns import MAX_LABEL, Column, money, plain, text, time, to_csv


def lines(frame: pl.DataFrame, *columns: Column) -> list[str]:
    return to_csv(frame, columns).decode().splitlines()


def test_null_and_empty_text_stay_apart() -> None:
    frame = pl.DataFrame({"n": [1, 2, 3], "t": [None, "", "x"]})
    assert lines(frame, plain("n", "integer"), text("t")) == ["1,", '2,""', "3,x"]


def test_text_survives_the_separators_of_csv() -> None:
    values = ['say "hi"', "a,b", "line\nbreak", "\\.", "\\N", "tab\t", "é 漢 🛒", "\r", " padded "]
    frame = pl.DataFrame({"n": range(len(values)), "t": values})
    back = csv.reader(io.StringIO(to_csv(frame, [plain("n", "integer"), text("t")]).decode(), newline=""))
    assert [row[1] for row in back] == values


def test_nul_becomes_its_symbol() -> None:
    frame = pl.DataFrame({"t": ["a\x00b"], "w": [["x\x00"]]})
    assert lines(frame, text("t"), plain("w", "text[]")) == ['a\u2400b,"{""x\u2400""}"']


def test_arrays_quote_every_element() -> None:
    frame = pl.DataFrame({"n": [1, 2, 3], "w": [[], ["A", "B"], ['q"', "b\\", "c,d"]]})
    back = csv.reader(io.StringIO(to_csv(frame, [plain("n", "integer"), plain("w", "text[]")]).decode()))
    assert [row[1] for row in back] == ["{}", '{"A","B"}', '{"q\\"","b\\\\","c,d"}']


def test_money_and_times_travel_as_integers() -> None:
    at = dt.datetime(2010, 12, 1, 8, 26, 0, 7000)
    frame = pl.DataFrame(
        {"amount_micros": [-2_550_000, None], "at": pl.Series([at, at], dtype=pl.Datetime("us"))},
        schema_overrides={"amount_micros": pl.Int64},
    )
    assert lines(frame, money("amount"), time("at")) == ["-2550000,1291191960007", ",1291191960007"]


def test_bytes_travel_as_hexadecimal() -> None:
    frame = pl.DataFrame({"payload": [b"\x00\xff,", b""]})
    assert lines(frame, plain("payload", "bytea")) == ["\\x00ff2c", "\\x"]


def test_load_id_is_bounded_because_it_is_indexed() -> None:
    frame = pl.DataFrame({"load_id": ["x" * 10_000]})
    assert lines(frame, text("load_id")) == ["x" * MAX_LABEL]


def test_column_may_take_another_name() -> None:
    frame = pl.DataFrame({"offset": [7]})
    assert lines(frame, plain("raw_offset", "bigint", source="offset")) == ["7"]
