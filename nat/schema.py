"""How config dataclasses are checked: unknown keys and values of another type are refused."""

from typing import Annotated, TypeAlias

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True)

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
