"""What stands before the agent's first turn, in training and in roll-outs alike; only a class's text may differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from nat.agents.actions import AgentConfig
from nat.examples.strategy import StrategyClass, StrategyConfig
from nat.types import Environment, Message, Role, Trajectory

Prompt: TypeAlias = Callable[[Environment, str, str], tuple[Message, ...]]  # from environment, question, class's name
TrajectoryPrompt: TypeAlias = Callable[[Trajectory, str], tuple[Message, ...]]  # from trajectory, class's name


def prompter(agent: AgentConfig, strategy: StrategyConfig) -> Prompt:
    """What makes the prompt of a question under the text of a class; one function for training and for roll-outs."""

    def prompt(environment: Environment, question: str, class_name: str) -> tuple[Message, ...]:
        class_ = strategy.class_named(class_name)
        return prompt_messages(agent.system, environment.instructions, question, strategy, class_)

    return prompt


def trajectory_prompter(environment: Environment, prompt: Prompt, strategy: StrategyConfig) -> TrajectoryPrompt:
    """What makes the prompt of a trajectory under the text of a class: that of its question, or the file's own."""

    def of_trajectory(trajectory: Trajectory, class_name: str) -> tuple[Message, ...]:
        if environment.protocol == "own":
            return marked_prompt(trajectory, strategy, strategy.class_named(class_name))
        return prompt(environment, trajectory.question, class_name)

    return of_trajectory


def prompt_messages(
    system: str | None, instructions: str, question: str, strategy: StrategyConfig, class_: StrategyClass
) -> tuple[Message, ...]:
    """Everything before the agent's first turn. Training and inference both call this; only `class_` may differ."""
    parts = [instructions, question]
    system_parts = [system or ""]
    match strategy.place:
        case "prefix":
            parts.insert(0, class_.text)
        case "suffix":
            parts.append(class_.text)
        case "system":
            system_parts.append(class_.text)
    messages = [Message("user", "\n".join(part for part in parts if part))]
    if system_text := "\n".join(part for part in system_parts if part):
        messages.insert(0, Message("system", system_text))
    return tuple(messages)


def marked_prompt(trajectory: Trajectory, strategy: StrategyConfig, class_: StrategyClass) -> tuple[Message, ...]:
    """The prompt that the trajectory's file has, with the class's text at the strategy's place.

    `prefix` and `suffix` stand around the user's last message, which asks; `system` at the end of the system message.
    A prompt without such a message gets one; a trajectory without a prompt has its question alone.
    """
    messages = list(trajectory.prompt) or [Message("user", trajectory.question)]
    if not class_.text:
        return tuple(messages)
    role: Role = "system" if strategy.place == "system" else "user"
    at = next((i for i in reversed(range(len(messages))) if messages[i].role == role), None)
    if at is None:
        at = 0 if role == "system" else len(messages)
        messages.insert(at, Message(role, ""))
    parts = [class_.text, messages[at].content] if strategy.place == "prefix" else [messages[at].content, class_.text]
    messages[at] = replace(messages[at], content="\n".join(part for part in parts if part))
    return tuple(messages)
