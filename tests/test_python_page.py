"""docs/python.md: its code runs as it stands, in an empty folder."""

import re

import pytest

import nat
from nat.api import _strings
from tests.conftest import ROOT

BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.slow
def test_the_pages_code_ends_in_a_frame_of_cells_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(names["collected"].episodes) == 160
    assert (names["found"].n_successes, names["found"].n_failures) == (
        sum(one.success for one in names["collected"].episodes),
        sum(not one.success for one in names["collected"].episodes),
    )
    assert len(names["trajectories"]) == names["found"].n_clean
    assert [name for name, *_ in names["shown"].classes] == ["correct", "incorrect"]
    assert (names["results"].coordinates.method, names["results"].coordinates.positives) == ("nat", 20)
    assert names["warmer"].inference.temperature == 0.7
    cells = names["cells"]
    assert sorted(zip(cells["method"], cells["seed"], cells["positives"], cells["negatives"], strict=True)) == [
        *(("nat", seed, 50, 100) for seed in (0, 1)),
        *(("nut", seed, 50, 100) for seed in (0, 1)),
        *(("positive_only", seed, 50, 0) for seed in (0, 1)),
    ]
    assert names["picture"].read_bytes().startswith(b"\x89PNG")


def test_the_page_names_every_function():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert {f"nat.{name}" for name in nat.__all__} <= set(re.findall(r"nat\.[A-Za-z_]+", page))


@pytest.mark.parametrize(
    ("override", "axes", "strings"),
    [
        ("seed=1", False, ["seed=1"]),
        ({"seed": 1, "training.sft.learning_rate": 1e-05}, False, ["seed=1", "training.sft.learning_rate=1e-05"]),
        ({"mixing.ratio": "1:2"}, False, ["mixing.ratio='1:2'"]),
        ({"trajectories.path": "a b,c='d'.jsonl"}, False, [r"trajectories.path='a b,c=\'d\'.jsonl'"]),
        ({"training.save": True, "model.lora": None}, False, ["training.save=true", "model.lora=null"]),
        ({"collect.temperatures": [0.2, 1]}, False, ["collect.temperatures=[0.2,1]"]),
        ({"environment.options": {"largest": 9}}, False, ["environment.options={'largest':9}"]),
        ({"seed": [0, 1], "method": ("nut", "nat")}, True, ["seed=0,1", "method='nut','nat'"]),
    ],
)
def test_mappings_become_overrides(override, axes, strings):
    assert _strings([override], axes) == strings


def test_what_is_wrong_is_raised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nat.RequestError, match=r"^trainig: there is no key 'trainig'\. Did you mean training\?"):
        nat.train({"trainig": 1})
    with pytest.raises(nat.RequestError, match=r"a sweep of several runs; call nat\.sweep"):
        nat.train("experiment=demo")
    with pytest.raises(nat.RequestError, match=r"nowhere\.jsonl does not exist"):
        nat.load_trajectories("nowhere.jsonl")
