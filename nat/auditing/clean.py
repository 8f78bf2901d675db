"""clean.jsonl, and what quality control drops: written row by row, as it was read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nat.auditing.duplicates import grouped
from nat.auditing.facts import Facts, digest
from nat.quality.config import KEPT, RULES, QualityConfig
from nat.quality.copies import Verdicts, collection_detail


def write_clean(facts: Facts, verdicts: Verdicts, quality: QualityConfig, folder: Path, dropped: IO[str]) -> None:
    """clean.jsonl, and what quality control drops after the bad rows."""
    temporary = folder / f".clean.{os.getpid()}.tmp"
    names = _new_ids(facts, verdicts)
    try:
        with temporary.open("wb") as clean:
            for row, (where, detail, text) in enumerate(facts.rows.lines()):
                number, other = int(verdicts.rule[row]), int(verdicts.other[row])
                if number == KEPT:
                    clean.write(text if row not in names else _renamed(text, names[row]))
                    continue
                record, rule = json.loads(text), RULES[number]
                told = json.loads(detail)
                if not told:
                    same = facts.row(other) if other >= 0 else None
                    told = collection_detail(rule, f"{same.trajectory.id} ({same.where})" if same else "", quality)
                line = {"where": json.loads(where), "id": record["id"], "rule": rule, "detail": told}
                write_line(dropped, {**line, "success": record["outcome"]["success"]})
        temporary.replace(folder / "clean.jsonl")
    finally:
        temporary.unlink(missing_ok=True)


def _new_ids(facts: Facts, verdicts: Verdicts) -> dict[int, str]:
    """Ids for the kept rows whose own is that of an earlier one: `nat train` knows trajectories by their id."""
    import numpy as np

    ids = facts.arrays()["id"]
    kept = np.flatnonzero(verdicts.rule == KEPT)
    groups = grouped(ids[kept])
    again = np.flatnonzero(groups.sizes > 1)
    taken = set(ids.tolist()) if len(again) else set()
    names: dict[int, str] = {}
    for start, size in zip(groups.starts[again].tolist(), groups.sizes[again].tolist(), strict=True):
        members = kept[groups.order[start : start + size]].tolist()
        own, number = facts.row(members[0]).trajectory.id, 2
        for row in members[1:]:
            while digest(f"{own}#{number}") in taken:
                number += 1
            names[row] = f"{own}#{number}"
            number += 1
    return names


def _renamed(text: bytes, id: str) -> bytes:
    record = json.loads(text)
    record["metadata"] = {**record["metadata"], "original_id": record["id"]}
    return (json.dumps({**record, "id": id}) + "\n").encode()


def write_line(file: IO[str], value: Mapping[str, Any]) -> None:
    # half of a surrogate pair has no UTF-8, its escape has
    text = json.dumps(value, ensure_ascii=False)
    with suppress(UnicodeEncodeError):
        text.encode()
        file.write(f"{text}\n")
        return
    file.write(f"{json.dumps(value)}\n")
