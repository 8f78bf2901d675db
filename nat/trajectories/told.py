"""A trajectory as the environment's agent would have told it."""

from __future__ import annotations

import json
from dataclasses import replace

from nat.agents.actions import chain_of_thought
from nat.trajectories.formats.tool_calls import as_react_text, as_tagged_text, with_thoughts
from nat.types import Environment, Message, Trajectory

TOOLS = "{tools}"  # where a text that tells of the tools has their list


def as_agent(environment: Environment, trajectory: Trajectory) -> Trajectory:
    """The trajectory as this environment's agent would have told it.

    Actions as text, or one chain of thought; for `own` as it is, calls and thoughts in tags, its tools told in the
    system message (`environment.instructions`).
    """
    if environment.protocol == "own":
        return _as_own(environment.instructions, trajectory)
    messages = with_thoughts(trajectory.messages, "" if environment.protocol == "cot" else "Thought: ")
    if any(message.tool_calls for message in messages):
        messages = as_react_text(messages)
    if environment.protocol == "cot":
        messages = chain_of_thought(messages)
    return trajectory if messages is trajectory.messages else replace(trajectory, messages=messages)


def _as_own(tools_text: str, trajectory: Trajectory) -> Trajectory:
    prompt = as_tagged_text(trajectory.prompt)
    if tools_text and trajectory.tools:
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in trajectory.tools)
        told = tools_text.replace(TOOLS, listed)
        has_system = bool(prompt) and prompt[0].role == "system"
        before, rest = (prompt[0].content, prompt[1:]) if has_system else ("", prompt)
        rest = rest or (Message("user", trajectory.question),)
        prompt = (Message("system", f"{before}\n\n{told}" if before else told), *rest)
    return replace(trajectory, messages=as_tagged_text(trajectory.messages), prompt=prompt)
