"""What our self-contained HTML pages share: files of `nat/assets`, and the policy that allows a page its own script."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources


def asset(name: str) -> str:
    return (resources.files("nat") / "assets" / name).read_text(encoding="utf-8")


def policy(css: str, script: str) -> str:
    """A content security policy under which nothing is fetched and no other style or script runs."""
    return (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_source_hash(css)}'; script-src '{_source_hash(script)}'"
    )


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
