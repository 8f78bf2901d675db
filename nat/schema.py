"""How config dataclasses are checked: unknown keys and values of another type are refused."""

from typing import Annotated, TypeAlias

from pydantic import ConfigDict, Field

# Deferred, because the whole configuration's check is built of all of them once: a tenth of a second per command.
STRICT = ConfigDict(extra="forbid", strict=True, defer_build=True)

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
