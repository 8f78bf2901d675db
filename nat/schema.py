"""How config dataclasses are checked: unknown keys and values of another type are refused."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", strict=True)
