"""A trajectory as the configured agent would have told it."""

from __future__ import annotations

from dataclasses import replace

from nat.agents.actions import AgentConfig, chain_of_thought
from nat.trajectories.formats.tool_calls import as_react_text
from nat.types import Trajectory


def as_agent(agent: AgentConfig, trajectory: Trajectory) -> Trajectory:
    """The trajectory as this agent would have told it: actions as text, or one chain of thought."""
    messages = trajectory.messages
    if any(message.tool_calls for message in messages):
        messages = as_react_text(messages)
    if agent.style == "cot":
        messages = chain_of_thought(messages)
    return trajectory if messages is trajectory.messages else replace(trajectory, messages=messages)
