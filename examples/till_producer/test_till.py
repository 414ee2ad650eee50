"""The till's own tests: what it sends is what the platform accepts."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from deploy.micro.server import Micro
from examples.till_producer.till import Line, Receipt, Till

pytest_plugins = ["deploy.micro.plugin"]

AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
HEART = Line("85123A", "WHITE HANGING HEART T-LIGHT HOLDER", 6, Decimal("2.55"))


def test_a_receipt_becomes_one_good_sale_a_line(tillstream_micro: Micro) -> None:
    till = Till(tillstream_micro.url, "till-7")
    sent = till.sell(Receipt(900001, AT, [HEART, HEART], customer="17850"))
    good = tillstream_micro.good(source_system="till-7")
    assert sorted(sale["event_id"] for sale in good) == sorted(sent)
    assert {sale["total_amount_micros"] for sale in good} == {15_300_000}
    assert {sale["quality_score"] for sale in good} == {1.0}
    assert tillstream_micro.bad() == []


def test_a_return_is_accepted_as_a_cancellation(tillstream_micro: Micro) -> None:
    back = Line(HEART.stock_code, HEART.description, -1, HEART.price)
    Till(tillstream_micro.url, "till-7").sell(Receipt(900002, AT, [back]))
    (sale,) = tillstream_micro.good()
    assert (sale["invoice_no"], sale["is_return"]) == ("C900002", True)


def test_an_empty_line_would_be_refused_and_the_test_says_why(tillstream_micro: Micro) -> None:
    nothing = Line(HEART.stock_code, HEART.description, 0, HEART.price)
    Till(tillstream_micro.url, "till-7").sell(Receipt(900003, AT, [HEART, nothing]))
    (item,) = tillstream_micro.bad()
    assert item["reason"] == "ZERO_QUANTITY"
    assert len(tillstream_micro.good()) == 1


def test_selling_twice_counts_once(tillstream_micro: Micro) -> None:
    till = Till(tillstream_micro.url, "till-7")
    receipt = Receipt(900004, AT, [HEART])
    assert till.sell(receipt) == till.sell(receipt)
    assert len(tillstream_micro.good()) == 1


def test_each_test_begins_with_an_empty_platform(tillstream_micro: Micro) -> None:
    assert (tillstream_micro.good(), tillstream_micro.bad()) == ([], [])
