"""What the tests of the two small models that ship with the package have in common."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import Any

import yaml

from nat.types import Message
from tests.conftest import ROOT

ODD_TEXT = "Zażółć — 3½ €,\n\n  def f(x):\r\n\treturn x**2  # 日本語 🙂 \u0000<b>"
JUDGING = re.compile(r"correct|\b(right|wrong|true|false|good|bad|better|worse|best|worst|quality|success|fail)")


def load_recipe(name: str) -> ModuleType:
    """A module of experiments/tiny_model or experiments/tiny_search, which are no packages."""
    for folder in (ROOT / "experiments" / "tiny_model", ROOT / "experiments" / "tiny_search"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def condition_texts() -> set[str]:
    """What the shipped strategies put into prompts."""
    files = sorted((ROOT / "conf" / "strategy").glob("*.yaml"))
    classes = [class_ for file in files for class_ in yaml.safe_load(file.read_text(encoding="utf-8"))["classes"]]
    return {class_["text"] for class_ in classes if class_["text"]}


def check_no_condition_and_no_judgement(messages: list[Message]) -> None:
    """No prompt holds a condition's text, and no message a word that judges."""
    conditions = condition_texts()
    assert len(conditions) >= 10
    prompts = [message.content for message in messages if message.role in ("system", "user")]
    assert not [text for text in prompts for condition in conditions if condition in text]
    assert JUDGING.search("solve this **incorrectly**")
    assert not [message.content for message in messages if JUDGING.search(message.content.lower())]


def check_rows_are_the_chat_templates(tokenizer: Any, conversations: list[list[Message]]) -> None:
    """Pre-training saw what fine-tuning will see, with loss on the agent's turns alone."""
    pretrain = load_recipe("pretrain")
    assert conversations
    for conversation in conversations:
        text = tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in conversation], tokenize=False
        )
        (row,) = pretrain.encode_all(tokenizer.backend_tokenizer, [conversation])
        assert row[0] == tokenizer.encode(text, add_special_tokens=False)
        trained = "".join(f"{message.content}<|end|>" for message in conversation if message.role == "assistant")
        assert tokenizer.decode([label for label in row[1] if label != -100]) == trained
