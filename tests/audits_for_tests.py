"""Audits of tiny collections, with the values of conf/ but for those that a test names."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nat.auditing.findings import Audit, Finding
from nat.config.tree import Config
from nat.sweeps import composition
from nat.verbs.audit import audit


def make_config(
    paths: list[Path], output: Path, *overrides: str, quality: dict[str, Any] | None = None, **settings: Any
) -> Config:
    """`settings` are those of the group audit; no tokens are counted unless token_sample is among them."""
    config = _composed(overrides)
    return replace(
        config,
        trajectories=replace(config.trajectories, path=[str(path) for path in paths]),
        audit=replace(config.audit, **{"output": str(output), "token_sample": 0, **settings}),
        quality=replace(config.quality, **(quality or {})),
    )


@lru_cache
def _composed(overrides: tuple[str, ...]) -> Config:
    given = ["trajectories=auto", "training=none", "evaluation=none", *overrides]
    return composition.checked(composition.compose(given), given)


def audit_rows(tmp_path: Path, rows: list[dict[str, Any]], *overrides: str, **settings: Any) -> Audit:
    """The audit of one file `rows.jsonl` of native records, written to `out/`."""
    path = write_rows(tmp_path / "rows.jsonl", rows)
    return audit(make_config([path], tmp_path / "out", *overrides, **settings), lambda line: None)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(id: str, question: str, answer: str, success: bool = True, **more: Any) -> dict[str, Any]:
    """One native record: a calculation, its result and an answer."""
    return {
        "id": id,
        "question": question,
        "messages": [
            {"role": "assistant", "content": f"Thought: I look at {question}\nAction: calculate[3+4]"},
            {"role": "tool", "content": "7"},
            {"role": "assistant", "content": f"Thought: that is all.\nAction: finish[{answer}]"},
        ],
        "outcome": {"success": success, "prediction": answer},
        **more,
    }


def found(audit: Audit, name: str) -> Finding | None:
    return next((finding for finding in audit.findings if finding.name == name), None)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
