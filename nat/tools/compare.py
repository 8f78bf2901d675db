"""`compare[a, b]`: which of two numbers comes first, or whether two texts are the same."""

from __future__ import annotations

import re

from nat.types import Tool, ToolError

MAX_CHARACTERS = 200


def compare(pair: str) -> str:
    """`before`, `after` or `same` for two whole numbers, such as years; `same` or `different` for two texts.

    The two stand on both sides of the first comma. Raises ToolError for anything else.
    """
    if len(pair) > MAX_CHARACTERS:
        raise ToolError(f"the input is longer than {MAX_CHARACTERS} characters")
    first, comma, second = (" ".join(part.casefold().split()) for part in pair.partition(","))
    if not comma or not first or not second:
        raise ToolError("two values with a comma between them are needed")
    if first == second:
        return "same"
    if re.fullmatch(r"-?[0-9]{1,9}", first) and re.fullmatch(r"-?[0-9]{1,9}", second):
        a, b = int(first), int(second)
        return "same" if a == b else "before" if a < b else "after"
    return "different"


COMPARISON = Tool(name="compare", run=compare)
