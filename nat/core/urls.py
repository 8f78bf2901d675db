"""A web address that a configuration names."""

from __future__ import annotations

from urllib.parse import urlsplit

from nat.types import RequestError


def check_url(
    url: str,
    key: str = "search.url",
    example: str = "https://google.serper.dev/search",
    key_variable: str = "search.key_variable",
) -> None:
    """Raises RequestError for what is no address, and for one with a password in it.

    `key` is what the configuration calls the address, `key_variable` where it names the variable of a key.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(f"{key}={url!r}: it must be an address such as {example}")
    if parts.username or parts.password:
        raise RequestError(f"{key}: holds a user name or password; a key belongs into {key_variable}'s variable.")
