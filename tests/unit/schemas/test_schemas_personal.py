"""Personal data is read with the right key for the right customer and field, and otherwise not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.personal import (
    CustomerKey,
    Keyring,
    PersonalDataError,
    WrappedKey,
    decrypt_fields,
    is_ciphertext,
)

RING = Keyring.from_hex("01" * 32, "02" * 32)
KEY, STORED = RING.new_key("17850")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back(text: str) -> None:
    sealed = KEY.encrypt("name", text)
    assert is_ciphertext(sealed)
    assert KEY.decrypt("name", sealed) == text
    assert KEY.encrypt("name", text) != sealed


@pytest.mark.parametrize(
    "reader",
    [
        (CustomerKey("17850", b"x" * 32), "name"),
        (CustomerKey("17851", KEY.raw), "name"),
        (KEY, "email"),
    ],
    ids=["another key", "another customer", "another field"],
)
def test_ciphertext_is_bound_to_key_customer_and_field(reader: tuple[CustomerKey, str]) -> None:
    key, name = reader
    with pytest.raises(PersonalDataError):
        key.decrypt(name, KEY.encrypt("name", "Ada"))


@pytest.mark.parametrize("text", ["", "Ada", "pd1.", "pd1.!!!", "pd1.AAAA", "pd2.AAAA"])
def test_what_is_no_ciphertext_is_refused(text: str) -> None:
    with pytest.raises(PersonalDataError):
        KEY.decrypt("name", text)


def test_any_change_of_a_ciphertext_is_noticed() -> None:
    sealed = KEY.encrypt("name", "Ada")
    for place in range(len("pd1."), len(sealed) - 1):
        other = "A" if sealed[place] != "A" else "B"
        with pytest.raises(PersonalDataError):
            KEY.decrypt("name", sealed[:place] + other + sealed[place + 1 :])


def test_stored_key_opens_for_its_customer_under_its_master_key_only() -> None:
    assert RING.unwrap("17850", STORED) == KEY
    with pytest.raises(PersonalDataError):
        RING.unwrap("17851", STORED)
    with pytest.raises(PersonalDataError, match=STORED.master_key):
        Keyring.from_hex("03" * 32, "02" * 32).unwrap("17850", STORED)
    with pytest.raises(PersonalDataError):
        RING.unwrap("17850", WrappedKey(STORED.wrapped[:-1] + b"\0", STORED.master_key))


def test_new_master_key_wraps_and_the_old_one_still_opens() -> None:
    both = Keyring.from_hex(f"{'03' * 32},{'01' * 32}", "02" * 32)
    assert both.unwrap("17850", STORED) == KEY
    rewrapped = both.wrap(KEY)
    assert rewrapped.master_key != STORED.master_key
    assert Keyring.from_hex("03" * 32, "02" * 32).unwrap("17850", rewrapped) == KEY


def test_blind_index_is_equal_for_equal_addresses_and_secret_without_its_key() -> None:
    index = RING.email_index("ada@example.com")
    assert RING.email_index(" Ada@EXAMPLE.com ") == index
    assert RING.email_index("ida@example.com") != index
    assert Keyring.from_hex("01" * 32, "04" * 32).email_index("ada@example.com") != index
    # It outlives a change of the master key.
    assert Keyring.from_hex("03" * 32, "02" * 32).email_index("ada@example.com") == index


@pytest.mark.parametrize(
    ("masters", "index"), [("", "02" * 32), ("01" * 31, "02" * 32), ("01" * 32, "zz" * 32)]
)
def test_bad_secret_is_refused_and_not_told(masters: str, index: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits") as failure:
        Keyring.from_hex(masters, index)
    assert not any(secret and secret in str(failure.value) for secret in (masters, index))


def test_value_that_did_not_change_keeps_its_ciphertext() -> None:
    old = KEY.encrypt("name", "Ada")
    assert KEY.keep_or_encrypt("name", "Ada", old) == old
    assert KEY.keep_or_encrypt("name", "Ida", old) != old
    assert KEY.keep_or_encrypt("name", None, old) is None
    fresh = KEY.keep_or_encrypt("name", "Ada", "plain text of another writer")
    assert fresh is not None
    assert KEY.decrypt("name", fresh) == "Ada"


def test_shredded_fields_are_empty_and_named() -> None:
    row = {"name": KEY.encrypt("name", "Ada"), "email": None, "phone": "pd1.AAAA", "address": None}
    unreadable: list[str] = []
    assert decrypt_fields(KEY, row, unreadable.append) == {
        "name": "Ada",
        "email": None,
        "phone": None,
        "address": None,
    }
    assert unreadable == ["phone"]
    assert set(decrypt_fields(None, row).values()) == {None}


def test_keys_are_not_in_a_repr() -> None:
    assert KEY.raw.hex() not in repr(KEY)
    assert repr(KEY.raw)[2:-1] not in repr(KEY)
