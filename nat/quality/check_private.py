"""Checks for what should not leave the house: secrets and e-mail addresses."""

from __future__ import annotations

import json
import re

from nat.quality.check_texts import texts_of
from nat.quality.marks import Check, Mark, View

_SECRET = re.compile(
    r"""
    (?<![A-Za-z0-9_-]) (?:
      (?P<openai> sk- (?: (?:proj|svcacct|admin|ant|or)-[A-Za-z0-9_-]{20,200} | [A-Za-z0-9]{20,200} ) )
    | (?P<github> gh[pousr]_[A-Za-z0-9]{30,255} | github_pat_[A-Za-z0-9_]{22,255} )
    | (?P<amazon> (?:AKIA|ASIA)[0-9A-Z]{16} (?![A-Za-z0-9]) )
    | (?P<google> AIza[0-9A-Za-z_-]{35} )
    | (?P<huggingface> hf_[A-Za-z0-9]{30,60} )
    | (?P<slack> xox[abeprs]-[0-9A-Za-z-]{10,200} )
    | (?P<jwt> eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000} )
    | (?P<bearer> [Bb]earer \s{1,4} [A-Za-z0-9._~+/-]{20,2000} =* )
    )
    | (?P<key> -----BEGIN\ (?:[A-Z0-9]{1,12}\ ){0,3}PRIVATE\ KEY(?:\ BLOCK)?----- )
    | (?P<login> ://[^\s:/@?\#]{1,64}:(?P<first>[^\s:/@]{3,100})@[A-Za-z0-9] )
    | [?&](?:password|passwd|pwd|api[_-]?key|access_token|auth_token|client_secret)=(?P<second>[^\s&"'<>)\]]{6,200})
    """,
    re.VERBOSE,
)


# "_" for ghp_, github_pat_ and hf_: one character is found much faster than several, and few texts hold it.
_SECRET_NEEDLES = ("sk-", "_", "AKIA", "ASIA", "AIza", "xox", "eyJ", "earer", "PRIVATE KEY", "://")


_SECRET_KINDS = {
    "openai": "an API key (sk-...)",
    "github": "a GitHub token",
    "amazon": "an AWS access key id",
    "google": "a Google API key",
    "huggingface": "a Hugging Face token",
    "slack": "a Slack token",
    "jwt": "a JSON web token",
    "bearer": "a bearer token",
    "key": "a private key",
    "login": "a password in a URL",
    "second": "a password or key in a URL",
}


# What stands in instructions in place of a secret.
_PLACEHOLDER = re.compile(
    r"[<{$%*\[].*|x+|X+|\.+|\*+|(?:your|my|the|some)?[-_]?(?:secret|pass(?:word|wd)?|pwd|token|(?:api[-_]?)?key).{0,20}",
    re.I,
)


_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+/@-])[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@"
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}([A-Za-z]{2,24}))(?![A-Za-z0-9@-])"
)


# Reserved for documentation (RFC 2606), and file names such as icon@2x.png.
_NO_DOMAIN = re.compile(
    r"(?:.*\.)?example\.(?:com|org|net|edu)|.*\.(?:example|test|invalid|png|jpe?g|gif|svg|webp)", re.I
)


def _private(view: View) -> list[Mark]:
    """Secrets, then e-mail addresses that are no part of one, of the texts and of the tool calls."""
    trajectory, joined = view.trajectory, view.joined
    texts: list[tuple[int | None, str, bool]] = []
    has_calls = any(message.tool_calls for message in trajectory.messages)
    with_secrets = has_calls or any(needle in joined for needle in _SECRET_NEEDLES)
    if with_secrets or "@" in joined:
        texts += [(i, text, False) for i, text in texts_of(trajectory)]
        for i, message in enumerate(trajectory.messages):
            if message.tool_calls:
                texts.append((i, json.dumps(message.tool_calls, ensure_ascii=False, default=str), True))
    secrets: list[Mark] = []
    addresses: list[Mark] = []
    for i, text, is_call in texts:
        hidden: list[tuple[int, int]] = []
        for found in _SECRET.finditer(text) if with_secrets else ():
            if (kind := _secret_kind(found)) is not None:
                hidden.append(found.span())
                start, end = (0, 0) if is_call else found.span()
                secrets.append(Mark("secret", i, start, end, f"{kind} in a tool call" if is_call else kind))
        for found in _EMAIL.finditer(text) if "@" in text else ():
            inside = any(start < found.end() and found.start() < end for start, end in hidden)
            is_git = found[0].startswith("git@") and text[found.end() : found.end() + 1] == ":"
            if not inside and not is_git and not _NO_DOMAIN.fullmatch(found[1]):
                start, end = (0, 0) if is_call else found.span()
                addresses.append(
                    Mark("email_address", i, start, end, "in a tool call" if is_call else f"at {found[1]}")
                )
    return [*secrets, *addresses]


def _secret_kind(found: re.Match[str]) -> str | None:
    """What this is; None for a word that only begins like a key, and for a placeholder."""
    kind = found.lastgroup if found.lastgroup != "first" else "login"
    if kind is None:
        return None
    if kind in ("login", "second"):
        return None if _PLACEHOLDER.fullmatch(found["first"] or found["second"]) else _SECRET_KINDS[kind]
    # Keys are random: among their characters are digits, and no character makes up most of them ("sk-xxxx...").
    text = found[0]
    if kind != "key" and (not re.search("[0-9]", text) or len(set(text)) < 10):
        return None
    return _SECRET_KINDS[kind]


CHECKS = (
    Check(
        name="secret",
        place=80,
        severity="error",
        unit="places",
        says="A text looks like an API key, a token, a password or a private key.",
        remedy=(
            "Withdraw the key, remove it from the file, and do not publish the data before (quality.secret=true drops"
            " it)."
        ),
        find=_private,
        rule="count",
        asks="are these secrets, or do they only look like some?",
    ),
    Check(
        name="email_address",
        place=90,
        severity="warning",
        unit="places",
        says="A text holds an e-mail address.",
        remedy=(
            "Models repeat what they were trained on: replace private addresses, or drop these trajectories "
            "(quality.email_address=true)."
        ),
        find=_private,
        rule="count",
        asks="are these addresses private?",
    ),
)
