import pytest

from nat import cli
from nat.inspection import Span, as_html, class_rows, spans
from nat.model import load_tokenizer
from nat.tokenization import chat_format
from nat.types import Example
from tests.test_config import compose

EXAMPLES = [
    Example([1, 2, 3, 4], [-100, -100, 3, 4], "correct", "a"),
    Example([1, 2], [-100, 2], "incorrect", "b"),
    Example([1, 2, 3], [-100, -100, 3], "correct", "c"),
]


def test_counts_per_class():
    assert class_rows(EXAMPLES) == [("correct", 2, 3, 4), ("incorrect", 1, 1, 1)]


def test_spans_are_runs_of_trained_and_of_masked_tokens():
    format = chat_format(load_tokenizer(compose().model))
    ids = format.tokenizer.encode("ab cd", add_special_tokens=False)
    other = format.tokenizer.encode("xy", add_special_tokens=False)
    example = Example([*ids, *other, *ids], [*[-100] * len(ids), *other, *[-100] * len(ids)], "correct", "a")
    assert list(spans(example, format)) == [
        Span("ab cd", False, len(ids)),
        Span("xy", True, len(other)),
        Span("ab cd", False, len(ids)),
    ]


def test_html_escapes_what_it_shows():
    format = chat_format(load_tokenizer(compose().model))
    ids = format.tokenizer.encode("<b>&", add_special_tokens=False)
    page = as_html([("correct", 1, 1, 0)], [("correct", [Example(ids, ids, "correct", "<a>")])], format)
    assert "<span class=trained title=" in page
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    assert "<a>" not in page


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["suffix", "prefix_correct"])
def test_inspect_shows_examples_of_each_class_with_what_is_trained(capsys, strategy):
    assert cli.run(["inspect", f"strategy={strategy}", "examples=1", "mixing.positives=5"]) == 0
    out = capsys.readouterr().out
    text = {"suffix": "solve this **incorrectly**.", "prefix_correct": "[Incorrect]"}[strategy]
    assert out.count(text) == 1
    trained = [part.split("⟧")[0] for part in out.split("⟦")[1:-1]]
    assert trained
    assert all("Thought:" in part and "Action:" in part for part in trained)
    assert not any("Use calculate" in part for part in trained)


def test_inspect_writes_html(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["inspect", "format=html", "examples=1", "mixing.positives=5"]) == 0
    page = (tmp_path / "inspect.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<section>") == 2
    assert str(tmp_path / "inspect.html") in capsys.readouterr().out
