"""The one loader of our self-contained HTML pages: templates of `nat/assets`, in which all that is put in is escaped.

A page's style and script are files of `nat/assets` too, and its content security policy allows no others.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jinja2 import Environment


class Own(NamedTuple):
    """A page's own style and script, and the policy under which no other runs and nothing is fetched."""

    style: str
    script: str
    policy: str


def own(styles: Sequence[str], scripts: Sequence[str]) -> Own:
    """Made of these files of `nat/assets`, in this order."""
    style, script = "".join(map(_asset, styles)), "".join(map(_asset, scripts))
    policy = (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'"
    )
    return Own(style, script, policy)


def templates(legible: Callable[[object], object], **filters: Callable[..., object]) -> Environment:
    """The templates of `nat/assets`. Every value passes `legible` on its way into a page, which makes of texts what a
    file can hold and a reader can see; then it is escaped. A name without a value raises jinja2.UndefinedError."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # not above: nothing but a page needs it

    made = Environment(
        loader=PackageLoader("nat", "assets"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        finalize=legible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(filters)
    return made


def macro(templates: Environment, template: str, name: str) -> Callable[[object], str]:
    """What makes a part of a page by itself; in a template its HTML stands as it is."""
    return getattr(templates.get_template(template).module, name)


def storable(text: str) -> str:
    """Without lone surrogates, which no file can hold; pairs of them become the character that they stand for."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def script_json(value: Any) -> str:
    """JSON that ends no script element and opens no comment, whatever its strings say."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (resources.files("nat") / "assets" / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
