"""The language model and its tokenizer: found, loaded, saved with what it takes to ask it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from nat.core.paths import ASSETS
from nat.core.schema import STRICT
from nat.examples.tokenization import ChatFormat, template_messages
from nat.types import Message, RequestError

SHIPPED_TEMPLATES = ("plain", "chatml")
BUILT_IN = ("tiny", "tiny_search")  # models that come with the package
QUESTION = "{question}"  # where a question goes in a saved model's prompt
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LoraConfig:
    """Low-rank adapters (Hu et al., 2021) in place of full fine-tuning; merged into the weights after training."""

    r: int
    alpha: int
    dropout: float
    target_modules: str | list[str]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ModelConfig:
    """Values and their meaning: conf/model/tiny.yaml."""

    name: str
    path: str
    revision: str | None
    chat_template: str | None
    max_length: PositiveInt
    dtype: Literal["float32", "bfloat16", "auto"]
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    threads: PositiveInt | None
    lora: LoraConfig | None


def resolve_device(device: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Where to compute. Raises RequestError where CUDA is asked for and there is none."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RequestError("training.device=cuda: no CUDA GPU is visible here; use training.device=auto or cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def use_threads(threads: int | None) -> None:
    """Limit torch's CPU threads for the rest of this process; None leaves them as they are."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def load_tokenizer(config: ModelConfig) -> Any:
    """The tokenizer with the chat template of `model.chat_template`.

    The shipped model's is loaded without importing torch.

    Raises:
        RequestError: nothing to load at `model.path`, or no such template.
    """
    source = _source(config)
    template = _chat_template(config)
    try:
        if _is_plain_fast_tokenizer(source):
            from transformers import PreTrainedTokenizerFast

            tokenizer = PreTrainedTokenizerFast.from_pretrained(source, local_files_only=True)
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(
                source, revision=config.revision, local_files_only=isinstance(source, Path)
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _not_loadable(config, "tokenizer", error) from error
    if template is not None:
        tokenizer.chat_template = template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked everywhere
    return tokenizer


def load_model(config: ModelConfig, device: Literal["cpu", "cuda"], seed: int = 0) -> Any:
    """The model on its device, in evaluation mode, wrapped by peft where `model.lora` is set.

    `seed` draws the adapters' first values.

    Raises:
        RequestError: nothing to load at `model.path`; `model.max_length` over the model's positions.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as library_logging

    source = _source(config)
    dtype: Any = config.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
    bars = library_logging.is_progress_bar_enabled()
    if isinstance(source, Path):
        library_logging.disable_progress_bar()  # a download deserves a bar, reading a local file none
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=config.revision,
            dtype=dtype,
            attn_implementation=config.attention,
            local_files_only=isinstance(source, Path),
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _not_loadable(config, "model", error) from error
    finally:
        if bars:
            library_logging.enable_progress_bar()
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and config.max_length > positions:
        raise RequestError(f"model.max_length={config.max_length}: {config.name} has {positions} positions; lower it")
    model: Any = model.to(device).eval()
    torch.manual_seed(seed)
    return model if config.lora is None else _with_adapters(model, config.lora)


def merged(model: Any) -> Any:
    """The model with its adapters folded into the weights (what roll-outs use and `save_model` saves)."""
    return model.merge_and_unload().eval() if hasattr(model, "merge_and_unload") else model


def save_model(
    model: Any,
    format: ChatFormat,
    directory: Path,
    prompt: Sequence[Message],
    stop: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Weights, tokenizer, `inference.json` and a model card with a snippet that runs.

    Adapters are merged first: the directory is a whole model that any tool loads.

    Args:
        prompt: what comes before the agent's first turn at inference, condition text included, with `{question}`
            in the place of the question.
        stop: texts that end a turn early (the observation's first words, say).
        facts: lines of the card: method, data, result.
    """
    if not any(QUESTION in message.content for message in prompt):
        raise ValueError(f"no {QUESTION} in the prompt to save")
    from transformers.utils import logging as library_logging

    model = merged(model)
    bars = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        model.save_pretrained(directory)
        format.tokenizer.save_pretrained(directory)
    finally:
        if bars:
            library_logging.enable_progress_bar()
    inference = {
        "prompt": template_messages(format, prompt),
        "observation_role": format.observation_role,
        "end_of_turn": format.end_of_turn,
        "stop": list(stop),
    }
    text = json.dumps(inference, indent=2, ensure_ascii=False)
    (directory / "inference.json").write_text(text + "\n", encoding="utf-8")
    (directory / "README.md").write_text(_card(format, prompt, facts or {}), encoding="utf-8")


def _source(config: ModelConfig) -> Path | str:
    """A local directory, or a hub id."""
    if config.path in BUILT_IN:
        return ASSETS / config.path
    path = Path(config.path).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise RequestError(
                f"model.path={config.path}: the directory holds no model (no config.json); "
                "a trained one is in a run's model/"
            )
        return path
    if path.exists() or not _HUB_ID.fullmatch(config.path):
        what = "is a file" if path.exists() else "no such directory, and no hub id (owner/name)"
        raise RequestError(
            f"model.path={config.path}: {what}; give a directory with a model, a hub id, or {' or '.join(BUILT_IN)}"
        )
    return config.path


def _is_plain_fast_tokenizer(source: Path | str) -> bool:
    """Whether tokenizer.json says it all. Others get special treatment in AutoTokenizer, which imports torch."""
    if not isinstance(source, Path) or not (source / "tokenizer.json").is_file():
        return False
    try:
        settings = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return settings.get("tokenizer_class") in ("PreTrainedTokenizerFast", "TokenizersBackend")


def _chat_template(config: ModelConfig) -> str | None:
    if config.chat_template is None:
        return None
    shipped = config.chat_template in SHIPPED_TEMPLATES
    path = ASSETS / f"{config.chat_template}.jinja" if shipped else Path(config.chat_template).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"model.chat_template={config.chat_template}: neither {' nor '.join(SHIPPED_TEMPLATES)}, and no file that "
            f"can be read ({type(error).__name__}); give one of them or the path of a .jinja file"
        ) from error


def _not_loadable(config: ModelConfig, what: str, error: Exception) -> RequestError:
    reason = " ".join(str(error).split())[:200]
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
    return RequestError(f"model.path={config.path}: no {what} can be loaded from there{offline}: {reason}")


def _with_adapters(model: Any, lora: LoraConfig) -> Any:
    import peft

    settings = asdict(lora)
    try:
        adapters = peft.LoraConfig(
            r=settings["r"],
            lora_alpha=settings["alpha"],
            lora_dropout=settings["dropout"],
            target_modules=settings["target_modules"],
            task_type="CAUSAL_LM",
        )
        return peft.get_peft_model(model, adapters).eval()
    except ValueError as error:  # a name that no layer has, a rank of 0
        raise RequestError(f"model.lora: {' '.join(str(error).split())[:200]}") from error


def _card(format: ChatFormat, prompt: Sequence[Message], facts: Mapping[str, Any]) -> str:
    lines = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    shown = "\n\n".join(f"[{message.role}]\n{message.content}" for message in prompt)
    return f"""---
library_name: transformers
tags: [nat, negative-aware-training]
---
# A model trained with nat

{lines}

It was trained to be asked as below (`inference.json`), `{QUESTION}` standing for the question. One turn:

```python
import json
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

here = Path(".")  # this directory
tokenizer = AutoTokenizer.from_pretrained(here)
model = AutoModelForCausalLM.from_pretrained(here)
prompt = json.loads((here / "inference.json").read_text(encoding="utf-8"))["prompt"]
question = "A shop has 6 apples and buys 11 more. How many apples does it have?"
messages = [{{**message, "content": message["content"].replace("{QUESTION}", question)}} for message in prompt]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
end = tokenizer.convert_tokens_to_ids({format.end_of_turn!r})
output = model.generate(**inputs, max_new_tokens=128, do_sample=False, eos_token_id=end)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

`nat evaluate THIS_DIRECTORY` plays whole episodes, tools included.

The prompt:

```text
{shown}
```
"""
