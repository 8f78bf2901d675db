"""Shared by all tests: no network, one thread a process, and where the real data lie."""

import json
import os
from pathlib import Path

# Before torch is imported anywhere: test processes run side by side, one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["NAT_CACHE"] = "off"  # tests neither read nor fill the user's cache

import pytest
from pydantic import TypeAdapter

from nat.config.options import shipped
from nat.trajectories.config import TrajectoriesConfig, TrajectoryFiles, files_of
from nat.types import Message, Outcome, Trajectory

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture
def data() -> Path:
    """The folder of real trajectories; tests that need it skip elsewhere."""
    if not DATA.is_dir():
        pytest.skip(f"real trajectories are not here: {DATA} does not exist")
    return DATA


def make_trajectory(
    id: str, success: bool = True, question: str | None = None, score: float | None = None, **metadata: object
) -> Trajectory:
    """A two-turn trajectory; each id has a question of its own unless one is given."""
    question = question or f"question of {id}"
    answer = "7" if success else "8"
    return Trajectory(
        id=id,
        question_id=question,
        question=question,
        messages=(
            Message("assistant", "Thought: add.\nAction: calculate[3+4]"),
            Message("tool", "7"),
            Message("assistant", f"Thought: done.\nAction: finish[{answer}]"),
        ),
        outcome=Outcome(
            success=success,
            score=(1.0 if success else 0.0) if score is None else score,
            failure=None if success else "wrong_answer",
            prediction=answer,
            reference="7",
        ),
        source="test",
        metadata=metadata,
    )


def trajectory_files(kind: str, **values: object) -> TrajectoryFiles:
    """The configuration of files of a format: the values that it ships with, and these in their place."""
    given = {**shipped("trajectories")[kind], **values}
    return files_of(TypeAdapter(TrajectoriesConfig).validate_json(json.dumps(given), strict=True))
