import pytest

from nat import cli
from nat.examples.tokenization import chat_format
from nat.model import load_tokenizer
from nat.types import Example
from nat.verbs.inspect import Inspection, ShownExample, Span, class_rows, spans
from tests.test_config import compose
from tests.test_report_page import Elements

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


def as_page(text: str) -> str:
    """A page of one example whose class, id and text, trained and masked, are all `text`."""
    format = chat_format(load_tokenizer(compose().model))
    ids = format.tokenizer.encode(text, add_special_tokens=False)
    example = Example([*ids, *ids], [*ids, *[-100] * len(ids)], text, text)
    shown = ShownExample(text, example.trajectory_id, len(example.input_ids), tuple(spans(example, format)))
    return Inspection((), ((text, 1, len(ids), len(ids)),), (shown,)).as_html()


def test_the_page_shows_counts_and_texts():
    elements = Elements(as_page("ab"))
    assert elements.inside("td") == ["ab", "1", "2", "2"]
    assert elements.inside("h2") == ["ab · ab · 4 tokens"]
    spans = [attributes for tag, attributes in elements.all if tag == "span"]
    assert spans[2:] == [{"class": "trained", "title": "2 tokens"}, {"class": "masked", "title": "2 tokens"}]
    assert elements.inside("span")[2:] == ["ab", "ab"]


def test_what_examples_hold_is_text():
    text = "</pre></style><script>alert(1)</script><b title='x' class=\"y\">&amp;"
    elements = Elements(as_page(text))
    assert [tag for tag, _ in elements.all] == [tag for tag, _ in Elements(as_page("ab")).all]
    assert elements.inside("td")[0] == text
    assert elements.inside("span")[2:] == [text, text]
    assert elements.inside("h2")[0].startswith(f"{text} · {text} · ")


def test_a_lone_surrogate_in_an_id_can_be_written():
    example = Example([1], [1], "correct", "a\ud800b")
    format = chat_format(load_tokenizer(compose().model))
    shown = ShownExample("correct", example.trajectory_id, len(example.input_ids), tuple(spans(example, format)))
    page = Inspection((), (("correct", 1, 1, 0),), (shown,)).as_html()
    assert "a\N{REPLACEMENT CHARACTER}b" in page
    page.encode()


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
