"""`nat inspect`: training examples as the model sees them, trained tokens apart from masked ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nat.config.tree import Config
from nat.core.html import storable, templates
from nat.examples.mixing import RatioMixing, ReplacedMixing
from nat.examples.tokenization import MASKED, ChatFormat
from nat.run import prepare
from nat.stages.manifest import describe
from nat.types import Example

HTML_FILE = Path("inspect.html")


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of an example that are all trained or all masked, as text."""

    text: str
    trained: bool
    tokens: int


def spans(example: Example, format: ChatFormat) -> Iterator[Span]:
    """The example's text in order, special tokens included."""
    pairs = zip(example.input_ids, example.labels, strict=True)
    for trained, group in itertools.groupby(pairs, key=lambda pair: pair[1] != MASKED):
        ids = [token for token, _ in group]
        yield Span(format.tokenizer.decode(ids, skip_special_tokens=False), trained, len(ids))


def inspect(config: Config) -> None:
    """Print (or write as HTML) `config.examples` examples of each class of the mix that `nat train` would train on."""
    prepared = prepare(config)
    if isinstance(mixing := config.mixing, RatioMixing | ReplacedMixing):
        print(f"mixing.ratio={mixing.ratio}:")
    for line in describe(config, prepared):
        print(line)
    rows = class_rows(prepared.examples)
    chosen = [(name, _first(prepared.examples, name, config.examples)) for name, *_ in rows]
    if config.format == "html":
        HTML_FILE.write_text(as_html(rows, chosen, prepared.format), encoding="utf-8")
        print(f"written: {HTML_FILE.absolute()}")
    else:
        _print(rows, chosen, prepared.format)


def class_rows(examples: Sequence[Example]) -> list[tuple[str, int, int, int]]:
    """Per class: name, examples, trained tokens, masked tokens."""
    names = dict.fromkeys(example.class_name for example in examples)
    rows = []
    for name in names:
        members = [example for example in examples if example.class_name == name]
        trained = sum(label != MASKED for example in members for label in example.labels)
        rows.append((name, len(members), trained, sum(len(example.labels) for example in members) - trained))
    return rows


def _first(examples: Sequence[Example], class_name: str, count: int) -> list[Example]:
    return [example for example in examples if example.class_name == class_name][:count]


def _print(
    rows: Sequence[tuple[str, int, int, int]], chosen: Sequence[tuple[str, Sequence[Example]]], format: ChatFormat
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table("class", "examples", "trained tokens", "masked tokens", box=None, pad_edge=False)
    for name, *counts in rows:
        table.add_row(Text(name), *map(str, counts))
    console.print(table)
    # Where colours are lost (a pipe, a file), brackets still show what is trained.
    left, right = ("", "") if console.is_terminal else ("⟦", "⟧")
    for name, examples in chosen:
        for example in examples:
            title = Text(f"{name} · {example.trajectory_id} · {len(example.input_ids)} tokens")
            console.rule(title, align="left")
            text = Text()
            for span in spans(example, format):
                if span.trained:
                    text.append(f"{left}{span.text}{right}", style="bold green")
                else:
                    text.append(span.text, style="dim")
            console.print(text, soft_wrap=True)
    console.print(Text("trained", style="bold green"), Text("masked", style="dim"), sep=" · ")


@dataclass(frozen=True)
class ShownExample:
    """An example as the page shows it."""

    class_name: str
    id: str
    tokens: int
    spans: tuple[Span, ...]


def as_html(
    rows: Sequence[tuple[str, int, int, int]], chosen: Sequence[tuple[str, Sequence[Example]]], format: ChatFormat
) -> str:
    """One self-contained page, light and dark."""
    examples = [
        ShownExample(name, example.trajectory_id, len(example.input_ids), tuple(spans(example, format)))
        for name, members in chosen
        for example in members
    ]
    made = templates(lambda value: storable(value) if type(value) is str else value)
    return made.get_template("inspect.html.jinja").render(rows=rows, examples=examples)
