"""Whether trajectories of files are of an agent that an environment has no place for: other tools, or plain chats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from nat.agents import kinds
from nat.agents.actions import FINISH, Action, parse_answer
from nat.core.rows.bad import BadRow
from nat.trajectories.config import TrajectoryFiles
from nat.trajectories.reading import files_to_read, read_rows
from nat.types import Trajectory

FILES = 20  # that are looked at
ROWS = 200  # of all of them


class Foreign(NamedTuple):
    """What a sample of trajectories has that an environment has not."""

    sampled: int
    tools: tuple[str, ...]  # the names, the most frequent first
    with_tools: int  # trajectories that list or call one of these
    chats: int  # trajectories without any action or answer

    @property
    def is_foreign(self) -> bool:
        """Whether most of them are of another agent than the environment's."""
        return 2 * (self.with_tools + self.chats) > self.sampled


def foreign(trajectories: Iterable[Trajectory], known: Collection[str]) -> Foreign:
    """Of these trajectories, beside an environment with the `known` tools."""
    names: Counter[str] = Counter()
    sampled = with_tools = chats = 0
    own = {name.lower() for name in (*known, FINISH)}
    for trajectory in trajectories:
        sampled += 1
        used = tool_names(trajectory)
        others = {name for name in used if name.lower() not in own}
        names.update(others)
        with_tools += bool(others)
        chats += not used and not _answers(trajectory)
    return Foreign(sampled, tuple(name for name, _ in names.most_common()), with_tools, chats)


def first_trajectories(config: TrajectoryFiles) -> list[Trajectory]:
    """Of the first FILES files the first ROWS trajectories; what cannot be read is passed over. Raises RequestError."""

    def ignore(row: BadRow) -> None:
        pass

    few = replace(config, path=[str(path) for path in files_to_read(config)[:FILES]])
    if config.labels is not None:  # it does not matter here how they are labelled, and the first may have no label
        few = replace(few, labels=None, label="success")
    return [row.trajectory for row in islice(read_rows(few, ignore, ignore), ROWS)]


def tool_names(trajectory: Trajectory) -> set[str]:
    """The tools that a trajectory lists or calls, by calls or in its text, whichever syntax that has."""
    listed = kinds.tool_names(trajectory.tools)
    agent = kinds.read_agent(trajectory.messages, listed)
    return {*listed, *(name for turn in agent.actions for name in kinds.calls_of(trajectory.messages, agent, turn))}


def _answers(trajectory: Trajectory) -> bool:
    turns = [message.content for message in trajectory.messages if message.role == "assistant"]
    return bool(turns) and isinstance(parse_answer(turns[-1]), Action)
