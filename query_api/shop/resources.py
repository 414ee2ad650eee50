"""The resources of REST v1 that can be written: their table, key, fields and filters, in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from query_api.errors import BadInputError
from query_api.shop import models
from query_api.shop.models import Body

Parse = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """`condition` has one `{}` for the value; `parse` raises ValueError; `values` is for the reference."""

    condition: str
    parse: Parse
    description: str
    kind: str = "string"


@dataclass(frozen=True, slots=True)
class Resource:
    """`key`: columns of the primary key, which are also the parts of the path, by their parsers.

    `fields`: what PUT replaces; `new`: the same and the key; `columns`: what an answer holds, in order.
    """

    name: str
    singular: str
    table: str
    key: Mapping[str, Parse]
    fields: type[Body]
    new: type[Body]
    columns: tuple[str, ...]
    filters: Mapping[str, Filter]
    personal: bool = False
    created_at: bool = True
    returned: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        stamps = ("version", "created_at", "updated_at") if self.created_at else ("version", "updated_at")
        object.__setattr__(self, "returned", (*self.columns, *stamps))

    @property
    def path(self) -> str:
        return f"/api/v1/{self.name}"

    @property
    def item_path(self) -> str:
        return "/".join((self.path, *(f"{{{part}}}" for part in self.key)))

    @property
    def writable(self) -> tuple[str, ...]:
        return tuple(self.fields.model_fields)


def _parser(kind: Any) -> Parse:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def parse(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None

    return parse


_identifier = _parser(models.Identifier)
_currency = _parser(models.Currency)
_time = _parser(models.Time)
_text = _parser(models.Text)


def _moment(text: str) -> datetime:
    # A "+" that was not escaped arrives as a space.
    found: datetime = _time(text.replace(" ", "+") if "T" in text else text)
    return found


def _yes(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


CUSTOMERS = Resource(
    name="customers",
    singular="customer",
    table="shop.customers",
    key={"customer_id": _identifier},
    fields=models.CustomerFields,
    new=models.CustomerNew,
    columns=("customer_id", *models.CustomerFields.model_fields),
    filters={
        "country": Filter("country = {}", _text, "The name as sales carry it."),
        "segment": Filter("segment = {}", _text, "Such as retail."),
        "tier": Filter("tier = {}", _text, "Such as gold."),
        # The application turns the address into its blind index first.
        "email": Filter("email_index = {}", _text, "The whole address; case does not matter."),
        "updated_since": Filter("updated_at >= {}", _moment, "ISO 8601."),
    },
    personal=True,
)
PRODUCTS = Resource(
    name="products",
    singular="product",
    table="shop.products",
    key={"stock_code": _identifier},
    fields=models.ProductFields,
    new=models.ProductNew,
    columns=("stock_code", *models.ProductFields.model_fields),
    filters={
        "category": Filter("category = {}", _text, "The whole name."),
        "supplier": Filter("supplier = {}", _text, "The whole name."),
        "description": Filter(
            "strpos(lower(description), lower({})) > 0", _text, "A part of it; case does not matter."
        ),
        "updated_since": Filter("updated_at >= {}", _moment, "ISO 8601."),
    },
)
STOCK_LEVELS = Resource(
    name="stock-levels",
    singular="stock level",
    table="shop.stock_levels",
    key={"stock_code": _identifier, "location": _identifier},
    fields=models.StockFields,
    new=models.StockNew,
    columns=("stock_code", "location", *models.StockFields.model_fields),
    filters={
        "stock_code": Filter("stock_code = {}", _identifier, "Of one product."),
        "location": Filter("location = {}", _identifier, "At one place."),
        "to_reorder": Filter(
            "(quantity <= reorder_level) = {}", _yes, "Whether it must be reordered.", "boolean"
        ),
    },
    created_at=False,
)
PRICE_LIST = Resource(
    name="price-list",
    singular="price",
    table="shop.price_list",
    key={"stock_code": _identifier, "currency": _currency, "valid_from": _moment},
    fields=models.PriceFields,
    new=models.PriceNew,
    columns=("stock_code", "currency", "valid_from", *models.PriceFields.model_fields),
    filters={
        "stock_code": Filter("stock_code = {}", _identifier, "Of one product."),
        "currency": Filter("currency = {}", _currency, "ISO 4217."),
        "at": Filter("tstzrange(valid_from, valid_to) @> {}::timestamptz", _moment, "Prices that hold then."),
    },
    created_at=False,
)
RESOURCES = (CUSTOMERS, PRODUCTS, STOCK_LEVELS, PRICE_LIST)


def parse_key(resource: Resource, parts: Mapping[str, str]) -> tuple[Any, ...]:
    """The key that a path names. Raises BadInputError."""
    return tuple(_parsed(name, parse, parts[name]) for name, parse in resource.key.items())


def parse_filters(resource: Resource, query: Mapping[str, str]) -> dict[str, Any]:
    """Raises BadInputError; a parameter that is no filter would otherwise be ignored unnoticed."""
    unknown = sorted(query.keys() - resource.filters.keys() - {"first", "after"})
    if unknown:
        known = ", ".join(("first", "after", *resource.filters))
        raise BadInputError(f"unknown parameter {unknown[0]!r}: {resource.name} takes {known}")
    return {
        name: _parsed(name, resource.filters[name].parse, text)
        for name, text in query.items()
        if name in resource.filters
    }


def _parsed(name: str, parse: Parse, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise BadInputError(f"{name}: {error}") from None
