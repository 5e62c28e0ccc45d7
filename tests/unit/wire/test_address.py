"""Addresses as people write them, and as they do not."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hodei.address import Address, AddressError, parse_address

#: What addresses are made of, and what has no place in them.
PIECES = st.lists(
    st.sampled_from(["http://", "https://", "[", "]", ":", "::1", "a", "localhost", "80", "65536", "/", "@", " ", "\t"])
    | st.text(max_size=3),
    max_size=6,
).map("".join)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:80", Address("localhost", 80)),
        ("https://jobs.example:443/", Address("jobs.example", 443, tls=True)),
        ("http://[::1]:80", Address("::1", 80, tls=False)),
        (" host ", Address("host", 7)),
        ("[fe80::1%eth0]", Address("fe80::1%eth0", 7)),
    ],
)
def test_addresses_are_read(text: str, address: Address) -> None:
    """With a scheme or without, with a port or the default."""
    assert parse_address(text, default_port=7) == address


@pytest.mark.parametrize(
    "text", ["[::1]80", "[::1", "[::1]x:80", "::1", "a b:80", "a\tb:80", "a\0:80", "[[a]:80", "a:" + "9" * 5000, ""]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Also where a port could be guessed: what was meant is not known."""
    with pytest.raises(AddressError):
        parse_address(text, default_port=7)


@given(text=PIECES | st.text(), default=st.sampled_from([None, 7]))
@example("a:" + "9" * 5000, 7)
@example("[[b]:80", 7)
def test_any_text_is_an_address_that_can_be_written_again_or_an_error(text: str, default: int | None) -> None:
    """Nothing else ever comes of it."""
    try:
        address = parse_address(text, default_port=default)
    except AddressError:
        return
    assert 0 <= address.port <= 65535
    assert parse_address(str(address)) == address
    assert parse_address(address.target).target == address.target
