"""Progress in a terminal's stead: lines now and then, one changing text in a notebook."""

import sys
from types import SimpleNamespace

import pytest

from nat.core import progress as module
from nat.core.progress import progress


@pytest.fixture
def notebook(monkeypatch):
    """Stands in for IPython in a kernel; returns what its cell shows, place by place."""
    shown: list[list[str]] = []

    class Place:
        def __init__(self, text):
            self.texts = [text]
            shown.append(self.texts)

        def update(self, data, raw):
            assert raw
            self.texts.append(data["text/plain"])

    def display(data, raw, display_id):
        assert raw and display_id
        return Place(data["text/plain"])

    shell = SimpleNamespace(kernel=object())
    stand_in = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", stand_in)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_WRITES", 0.0)
    return shown, shell


def test_a_notebook_shows_each_work_in_one_place(notebook, capsys):
    shown, _ = notebook
    for what in ("training", "evaluating"):
        with progress(2, what, "steps") as advance:
            advance(1, "loss 0.5")
            advance(2, "")
    assert [[text.partition(",")[0] for text in place] for place in shown] == [
        ["training: 1/2 steps", "training: 2/2 steps"],
        ["evaluating: 1/2 steps", "evaluating: 2/2 steps"],
    ]
    assert shown[0][0].endswith("left loss 0.5")
    assert capsys.readouterr().err == ""


def test_a_shell_without_a_kernel_is_no_notebook(notebook, capsys):
    shown, shell = notebook
    del shell.kernel
    with progress(3, "training", "steps") as advance:
        advance(1, "")  # within ten seconds, and not the last: not said
        advance(3, "")
    assert not shown
    assert capsys.readouterr().err == "training: 3/3 steps, about 0 s left\n"
