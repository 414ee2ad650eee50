"""Made-up people: the same for a customer id every time, in the manner of their country. Nobody real.

Addresses of e-mail are under the domains that RFC 2606 keeps for examples, so no message can reach anyone.
"""

from __future__ import annotations

import unicodedata
import zlib
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from faker import Faker

LOCALES: Final = {
    "EIRE": "en_IE",
    "France": "fr_FR",
    "Germany": "de_DE",
    "Netherlands": "nl_NL",
    "Spain": "es_ES",
    "Portugal": "pt_PT",
    "Italy": "it_IT",
}
_DEFAULT: Final = "en_GB"


def person(customer_id: str, country: str) -> dict[str, str]:
    """`name`, `email`, `phone`, `address` (one line)."""
    fake = _faker(LOCALES.get(country, _DEFAULT))
    fake.seed_instance(zlib.crc32(f"tillstream customer {customer_id}".encode()))
    first, last = fake.first_name(), fake.last_name()
    domain = fake.random_element(("example.com", "example.net", "example.org"))
    return {
        "name": f"{first} {last}",
        # The id keeps two people of one name apart.
        "email": f"{_ascii(first)}.{_ascii(last)}.{customer_id}@{domain}",
        "phone": fake.phone_number(),
        "address": ", ".join(line.strip() for line in fake.address().splitlines() if line.strip()),
    }


@cache
def _faker(locale: str) -> Faker:
    # Here and not above: it takes a second, and most starts need nobody.
    from faker import Faker  # noqa: PLC0415

    return Faker(locale)


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "".join(letter for letter in plain if letter.isalnum()) or "x"
