"""Everything that decides what an episode is like: a file of trajectories holds episodes of one such setting."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import JsonValue

from nat.collection.config import CollectConfig, ModelCollecting, PromptedCollecting, ServerCollecting
from nat.core.files import content_hash
from nat.core.paths import ASSETS
from nat.environments.config import EnvironmentConfig
from nat.model import ModelConfig
from nat.search.config import SearchConfig
from nat.types import Environment, Message


def settings(
    asked: CollectConfig,
    world: EnvironmentConfig,
    environment: Environment,
    searched: SearchConfig,
    model: ModelConfig,
    prompt: Callable[[str], tuple[Message, ...]],
) -> dict[str, JsonValue]:
    """Everything that decides what an episode is like, but for its question, temperature and sample.

    Where a server stands, how many episodes run at once and how often a request is tried may change on the way.
    """
    turns = asked.turns if isinstance(asked, PromptedCollecting) else None
    world_values = {k: v for k, v in asdict(world).items() if k not in ("questions", "held_out", "few_shot")}
    return json.loads(
        json.dumps(
            {
                "policy": asked.kind,
                "name": asked.name,
                "model": _model_identity(asked, model),
                "seed": asked.seed,
                "prompt": [[message.role, message.content] for message in prompt("{question}")],
                "turns": None
                if turns is None
                else {"max_tokens": turns.max_tokens, "top_p": turns.top_p, "stop": turns.stop},
                "extra": asked.endpoint.extra if isinstance(asked, ServerCollecting) else None,
                "environment": world_values,
                "protocol": environment.protocol,
                "search": asdict(searched),
            }
        )
    )


def _model_identity(asked: CollectConfig, model: ModelConfig) -> JsonValue:
    """The model's name at its server, or a local model's files by content; None for the scripted policy."""
    if isinstance(asked, ServerCollecting):
        return asked.endpoint.model
    if not isinstance(asked, ModelCollecting):
        return None

    directory = ASSETS / "tiny" if model.path == "tiny" else Path(model.path).expanduser()
    if not directory.is_dir():
        return [model.path, model.revision, model.chat_template]
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*")):
        if path.suffix in (".safetensors", ".bin", ".json", ".jinja", ".model"):
            digest.update(f"{path.name} {content_hash(path)}\n".encode())
    return [digest.hexdigest()[:16], model.chat_template]
