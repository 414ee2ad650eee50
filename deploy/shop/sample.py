"""Customers, products, stock and prices as the sample's sales imply them. Pure: sales in, rows out.

- A product is a stock code of five digits with an optional suffix. Its description is the one most lines
  have, its list price the median of its positive prices, its currency that of the sample (GBP).
- Its category is the first rule of `CATEGORIES` with a word of the description; its supplier follows the
  category.
- Stock, at `MAIN`: ten times what the sample sold, at least 24; it is reordered at twice what was sold.
- A customer is `wholesale` who ever bought 48 or more of one product at once, else `retail`. By what they
  spent, the upper tenth is `gold`, the next three tenths are `silver`, the rest is `bronze`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

CURRENCY: Final = "GBP"
LOCATION: Final = "MAIN"
# The sample begins on 2010-12-01: its prices were the list prices of that year.
PRICES_FROM: Final = datetime(2010, 1, 1, tzinfo=UTC)
OTHER: Final = ("Gifts and other", "General Trading Ltd")
# (category, supplier, words): the first rule with a word of the description wins.
CATEGORIES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "Seasonal",
        "Northern Lights Seasonal Ltd",
        "CHRISTMAS EASTER ADVENT SANTA REINDEER SNOWFLAKE VALENTINE HALLOWEEN",
    ),
    (
        "Lighting and candles",
        "Wick and Lantern Ltd",
        "CANDLE CANDLES T-LIGHT T-LIGHTS LANTERN LAMP LIGHT LIGHTS CANDLEHOLDER",
    ),
    ("Bags and purses", "Harbour Bags Ltd", "BAG BAGS PURSE WALLET RUCKSACK SHOPPER CASE CASES TOTE"),
    (
        "Jewellery",
        "Silverlane Jewellery Ltd",
        "NECKLACE BRACELET EARRINGS EARRING RING BROOCH BANGLE HAIRCLIP",
    ),
    (
        "Kitchen and dining",
        "Table and Hearth Ltd",
        "MUG CUP TEA COFFEE BOWL PLATE CAKE KITCHEN CUTLERY DINNER LUNCH BOTTLE JAR JUG TEAPOT TRAY EGG "
        "GLASS PLATES TIN TINS APRON SPOON BAKING PANTRY SAUCER",
    ),
    (
        "Stationery and paper",
        "Quill Paper Ltd",
        "CARD CARDS PAPER NOTEBOOK PEN PENCIL PENCILS WRAP STICKERS TAPE TISSUES ENVELOPE CALENDAR LETTER "
        "RIBBON RIBBONS",
    ),
    ("Party", "Bunting and Co", "PARTY BIRTHDAY BUNTING GARLAND BALLOON BALLOONS"),
    (
        "Toys and children",
        "Playroom Ltd",
        "TOY TOYS DOLL DOLLY CHILDRENS CHILDS GAME PUZZLE SPACEBOY FELTCRAFT BABUSHKA JIGSAW",
    ),
    (
        "Garden and outdoors",
        "Greenhouse Supply Ltd",
        "GARDEN FLOWER UMBRELLA PARASOL PLANT BIRD WATERING PICNIC",
    ),
    (
        "Home and decoration",
        "Mantelpiece Ltd",
        "DECORATION HOLDER SIGN FRAME CLOCK CUSHION DOORMAT MIRROR HOOK KNOB DRAWER WALL DOOR HANGER BOX "
        "BOXES HEART HEARTS HANGING CABINET RACK STAND STAR",
    ),
)
_PRODUCT_CODE: Final = r"^[0-9]{5}[A-Za-z]*$"
_WHOLESALE_QUANTITY: Final = 48


def read(folder: Path) -> pl.DataFrame:
    """Every line of the folder's CSV files that names a product or a customer and is no return.

    Columns: stock_code, description, quantity, price, customer_id (null for a guest), country.
    """
    lines = pl.concat(pl.read_csv(path, infer_schema=False) for path in sorted(folder.glob("*.csv")))
    return lines.select(
        stock_code=pl.col("StockCode").str.strip_chars(),
        description=pl.col("Description").str.strip_chars().replace("", None),
        quantity=pl.col("Quantity").cast(pl.Int64, strict=False),
        price=pl.col("UnitPrice").cast(pl.Float64, strict=False),
        customer_id=pl.col("CustomerID").str.strip_chars().str.replace(r"(\.0)+$", "").replace("", None),
        country=pl.col("Country").str.strip_chars(),
    ).filter(pl.col("quantity") > 0)


def products(lines: pl.DataFrame) -> pl.DataFrame:
    """stock_code, description, category, supplier, list_price (text, or null), sold; by stock_code."""
    sold = lines.filter(pl.col("stock_code").str.contains(_PRODUCT_CODE))
    named = (
        sold.drop_nulls("description")
        .group_by("stock_code", "description")
        .len()
        .sort("stock_code", "len", "description", descending=[False, True, False])
        .unique("stock_code", keep="first")
        .select("stock_code", "description")
    )
    priced = sold.filter(pl.col("price") > 0).group_by("stock_code").agg(list_price=pl.col("price").median())
    category = pl.col("description").map_elements(lambda text: categorise(text)[0], return_dtype=pl.String)
    supplier = pl.col("description").map_elements(lambda text: categorise(text)[1], return_dtype=pl.String)
    return (
        sold.group_by("stock_code")
        .agg(sold=pl.col("quantity").sum())
        .join(named, on="stock_code", how="left")
        .join(priced, on="stock_code", how="left")
        .with_columns(
            category=category.fill_null(OTHER[0]),
            supplier=supplier.fill_null(OTHER[1]),
            list_price=pl.col("list_price")
            .round(2)
            .map_elements(lambda x: f"{x:.2f}", return_dtype=pl.String),
        )
        .sort("stock_code")
    )


def categorise(description: str) -> tuple[str, str]:
    """Category and supplier of a description."""
    words = set(description.upper().replace(",", " ").split())
    for category, supplier, rule in CATEGORIES:
        if words & set(rule.split()):
            return category, supplier
    return OTHER


def customers(lines: pl.DataFrame) -> pl.DataFrame:
    """customer_id, country (of the first line), segment, tier; by customer_id."""
    found = (
        lines.drop_nulls("customer_id")
        .group_by("customer_id", maintain_order=True)
        .agg(
            country=pl.col("country").first(),
            largest=pl.col("quantity").max(),
            spent=(pl.col("quantity") * pl.col("price")).sum(),
        )
        # The id settles equal amounts, so that a second run finds the same tiers.
        .sort("spent", "customer_id", descending=[True, False])
    )
    share = pl.int_range(1, pl.len() + 1) / pl.len()
    return found.select(
        "customer_id",
        "country",
        segment=pl.when(pl.col("largest") >= _WHOLESALE_QUANTITY)
        .then(pl.lit("wholesale"))
        .otherwise(pl.lit("retail")),
        tier=pl.when(share <= 0.1)
        .then(pl.lit("gold"))
        .when(share <= 0.4)
        .then(pl.lit("silver"))
        .otherwise(pl.lit("bronze")),
    ).sort("customer_id")
