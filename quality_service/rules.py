"""The contract's rules as Polars expressions, compiled once and evaluated over whole batches.

A rule's expression is true where the rule applies, that is where the row breaks it; null counts as false.
What applies to a row is kept as the bits of an integer: few different combinations occur in a batch, so the
lists of names are made for each combination and not for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.contract import Contract, Rule

Masks = NDArray[np.int64]
NOW_MS: Final = "now_ms"
TOTAL: Final = "total_amount_micros"
_MAX_RULES: Final = 62


@dataclass(frozen=True, slots=True)
class Judged:
    """Which rules apply to each row, bit i for rule i of the contract's order; and the row's amount
    (quantity * unit price, null where it does not fit 64 bits)."""

    reject: Masks
    warn: Masks
    amount_micros: pl.Series


class Rules:
    """Compiled from a contract. Engine-provided rules (those without expression) have a place in the order,
    and never apply by themselves."""

    def __init__(self, contract: Contract) -> None:
        self._reject = _Family(contract.reject)
        self._warn = _Family(contract.warn)
        self._describe = {rule.id: rule.description for rule in contract.reject}

    def judge(self, rows: pl.DataFrame, now_ms: int) -> Judged:
        """`rows`: normalised raw sales."""
        total = pl.col("quantity").cast(pl.Int128) * pl.col("unit_price_micros").cast(pl.Int128)
        context = rows.lazy().with_columns(total.alias(TOTAL), pl.lit(now_ms, dtype=pl.Int64).alias(NOW_MS))
        masks = context.select(
            self._reject.mask.alias("reject"),
            self._warn.mask.alias("warn"),
            pl.col(TOTAL).cast(pl.Int64, strict=False),
        ).collect()
        return Judged(masks["reject"].to_numpy(), masks["warn"].to_numpy(), masks[TOTAL])

    def bit(self, rule_id: str) -> int:
        """The bit of a rejecting rule. Raises KeyError where the contract has no such rule."""
        return self._reject.bits[rule_id]

    def explain(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`detail` of each row: the description of its `reason`, where it has no detail of its own."""
        reasons = list(self._describe)
        described = pl.col("reason").replace_strict(
            reasons, list(self._describe.values()), default=None, return_dtype=pl.String
        )
        return rows.with_columns(pl.coalesce("detail", described).alias("detail"))

    def rejections(self, masks: Masks) -> tuple[pl.Series, pl.Series]:
        """For each row its reason, the first rule that applies (or null), and all that apply."""
        return self._reject.first(masks), self._reject.names(masks)

    def warnings(self, masks: Masks) -> tuple[pl.Series, pl.Series]:
        """For each row its quality score (1 less the weights of its warnings, at least 0), and their ids."""
        return self._warn.scores(masks), self._warn.names(masks)


class _Family:
    """Rules of one effect, in the contract's order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        if len(rules) > _MAX_RULES:
            raise ValueError(f"a contract holds at most {_MAX_RULES} rules of one severity")
        self.bits = {rule.id: 1 << i for i, rule in enumerate(rules)}
        self._rules = rules
        applied = [
            pl.when(pl.sql_expr(rule.expression)).then(self.bits[rule.id]).otherwise(0).cast(pl.Int64)
            for rule in rules
            if rule.expression
        ]
        self.mask: pl.Expr = pl.sum_horizontal(applied) if applied else pl.lit(0, dtype=pl.Int64)

    def first(self, masks: Masks) -> pl.Series:
        return self._by_mask(masks, pl.String(), lambda rules: rules[0].id if rules else None)

    def names(self, masks: Masks) -> pl.Series:
        return self._by_mask(masks, pl.List(pl.String), lambda rules: [rule.id for rule in rules])

    def scores(self, masks: Masks) -> pl.Series:
        return self._by_mask(masks, pl.Float64(), _score)

    def _by_mask(self, masks: Masks, dtype: pl.DataType, value: Callable[[list[Rule]], Any]) -> pl.Series:
        """`value` of each distinct combination of rules, spread over the rows."""
        distinct, place = np.unique(masks, return_inverse=True)
        combinations = [
            [rule for rule in self._rules if self.bits[rule.id] & mask] for mask in distinct.tolist()
        ]
        return pl.Series([value(rules) for rules in combinations], dtype=dtype).gather(
            place.astype(np.uint32)
        )


def _score(warnings: Sequence[Rule]) -> float:
    # Rounded: 1 - (0.2 + 0.1) shall be 0.7 in every store and for every reader.
    return max(0.0, round(1.0 - sum(rule.weight for rule in warnings), 6))
