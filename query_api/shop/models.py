"""What a request of REST v1 may say, field by field. Pure.

Text is trimmed; empty text, control characters and lone surrogates are refused. Times without a zone are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    StringConstraints,
    model_validator,
)

from schemas.reference import currencies

_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def _printable(text: str) -> str:
    if any(not character.isprintable() for character in text):
        raise ValueError("must not hold control characters")
    return text


def _addressable(text: str) -> str:
    if "/" in text:
        raise ValueError("must not hold a slash: it is a part of a path")
    return _printable(text)


def _iso4217(text: str) -> str:
    if text not in currencies():
        raise ValueError("must be an ISO 4217 code in capitals, such as GBP")
    return text


def _in_utc(time: datetime) -> datetime:
    moment = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if not _EARLIEST <= moment < _LATEST:
        raise ValueError("must be from 1900 to 2199")
    return moment


def _no_number(value: Any) -> Any:
    """Pydantic would take seconds since 1970 for a time."""
    if isinstance(value, int | float | Decimal):
        raise ValueError("must be an ISO 8601 time")
    return value


def _exact(value: Any) -> Any:
    """A JSON number arrives as `Decimal` or `int` here; true is neither."""
    if isinstance(value, bool):
        raise ValueError("must be a decimal, as a string or a number")
    return value


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_printable)]
Time = Annotated[datetime, BeforeValidator(_no_number), AfterValidator(_in_utc)]
Currency = Annotated[str, AfterValidator(_iso4217)]
Money = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=20, decimal_places=6)]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Identifier = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), AfterValidator(_addressable)
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class CustomerFields(Body):
    name: Text | None = Field(
        None, max_length=200, description="Personal; kept encrypted.", examples=["Ada Byron"]
    )
    email: Annotated[EmailStr, StringConstraints(max_length=254)] | None = Field(
        None, description="Personal; kept encrypted.", examples=["ada.byron@example.com"]
    )
    phone: (
        Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[0-9+()./ x-]{3,40}$")] | None
    ) = Field(None, description="Personal; kept encrypted.", examples=["+44 20 7946 0000"])
    address: Text | None = Field(
        None,
        max_length=500,
        description="Personal; kept encrypted.",
        examples=["12 St James's Square, London SW1Y 4JH"],
    )
    country: Text | None = Field(
        None, max_length=100, description="The name as sales carry it.", examples=["United Kingdom"]
    )
    segment: Code | None = Field(None, examples=["retail"])
    tier: Code | None = Field(None, examples=["gold"])
    valid_from: Time | None = Field(
        None,
        description="Since when this is true in the world; null: since it was written.",
        examples=["2010-12-01T00:00:00Z"],
    )


class CustomerNew(CustomerFields):
    customer_id: Identifier = Field(examples=["90001"])


class ProductFields(Body):
    description: Text | None = Field(None, max_length=400, examples=["WHITE HANGING HEART T-LIGHT HOLDER"])
    category: Text | None = Field(None, max_length=100, examples=["Lighting and candles"])
    list_price: Money | None = Field(None, description="Exact; at most six places.", examples=["2.55"])
    currency: Currency | None = Field(None, examples=["GBP"])
    supplier: Text | None = Field(None, max_length=200, examples=["Wick and Lantern Ltd"])
    valid_from: Time | None = Field(
        None,
        description="Since when this is true in the world; null: since it was written.",
        examples=["2010-12-01T00:00:00Z"],
    )

    @model_validator(mode="after")
    def _priced_in_a_currency(self) -> ProductFields:
        if self.list_price is not None and self.currency is None:
            raise ValueError("list_price needs a currency")
        return self


class ProductNew(ProductFields):
    stock_code: Identifier = Field(examples=["90001A"])


class StockFields(Body):
    quantity: Annotated[int, Field(strict=True, ge=-(2**31), lt=2**31)] = Field(
        description="Pieces at hand; below zero when more was sold than counted.", examples=[120]
    )
    reorder_level: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = Field(0, examples=[24])


class StockNew(StockFields):
    stock_code: Identifier = Field(examples=["85123A"])
    location: Identifier = Field(examples=["MAIN"])


class PriceFields(Body):
    price: Money = Field(description="Exact; at most six places.", examples=["2.95"])
    valid_to: Time | None = Field(
        None, description="Exclusive; null: until further notice.", examples=["2012-01-01T00:00:00Z"]
    )


class PriceNew(PriceFields):
    stock_code: Identifier = Field(examples=["85123A"])
    currency: Currency = Field(examples=["EUR"])
    valid_from: Time = Field(examples=["2011-01-01T00:00:00Z"])

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> PriceNew:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")
        return self
