import subprocess
import sys

import pytest

from nat import cli
from nat.core.paths import PACKAGE
from nat.types import RequestError
from nat.verbs.request import parse

VERBS = PACKAGE / "verbs"


def test_help_names_every_verb_and_imports_nothing_heavy():
    code = (
        "import sys; from nat import cli; code = cli.run(['--help']);"
        f"loaded = {HEAVY | {'hydra', 'pydantic', 'nat.verbs', 'nat.config'}!r} & set(sys.modules);"
        "print(loaded, file=sys.stderr); sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.strip()) == (0, "set()")
    for verb in ("nat train", "nat inspect", "nat evaluate", "nat report"):
        assert verb in ended.stdout


# What no answer to a wrong request may load; nat.run stands for all that carries a right one out.
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "pyarrow", "pandas", "wandb", "numpy", "scipy"}
HEAVY |= {"matplotlib", "jinja2", "openai", "httpx", "bm25s", "nat.run"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "strategy=foo"],
        ["train", "no_such_key=1"],
        ["train", "seed=x"],
        ["train", "mixing.ratio=abc"],
        ["train", "search=bm25"],
        ["collect", "collect=openai", "collect.endpoint.model=m", "collect.endpoint.base_url='http://a:b@c'"],
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_heavy_is_imported(arguments, tmp_path):
    code = (
        f"import sys; from nat import cli; code = cli.run({arguments!r});"
        f"print({HEAVY!r} & set(sys.modules)); sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    carried_out = {"nat.run"} if arguments[0] == "collect" else set()
    assert (ended.returncode, ended.stdout.strip()) == (2, str(carried_out))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "nat trian: no such command; there are train, evaluate, audit, inspect, collect"),
        (["train", "--cofnig", "job"], "--cofnig: no such flag"),
        (["train", "--config-dir"], "expected one argument"),
        (["report"], "usage: nat report DIR"),
        (["report", "a", "seed=1"], "seed=1: nat report takes report.KEY=VALUE only"),
        (["dashboard", "a", "b"], "b: nat dashboard takes a sweep's directory only"),
        (["evaluate"], "usage: nat evaluate MODEL_DIR"),
        (["evaluate", "seed=1"], "usage: nat evaluate MODEL_DIR"),
        (["evaluate", "nowhere"], "nat evaluate nowhere: no model there"),
        (["collect", "nowhere"], "nat collect nowhere: no model there"),
        (["inspect", "-m", "seed=1,2"], "leave -m out"),
        (["inspect", "strategy=foo"], "strategy=foo: there is no such option"),
        (["train", "--config-dir", "nowhere", "strategy=mine"], "nowhere"),
    ],
)
def test_what_cannot_be_a_command_ends_with_code_2(arguments, message, capsys):
    assert cli.run(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) <= 6


def test_without_arguments_the_help_is_shown_and_the_code_is_2(capsys):
    assert cli.run([]) == 2
    assert "usage: nat VERB" in capsys.readouterr().out


def test_flags_and_overrides_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my conf").mkdir()
    request = parse(["-m", "--config-dir", "my conf", "seed=1,2", "trajectories.path='a b,c=d.jsonl'"])
    assert request.overrides == ("seed=1,2", "trajectories.path='a b,c=d.jsonl'")
    assert request.config_dir == "my conf"
    assert request.multirun
    with pytest.raises(RequestError, match="no such flag"):
        parse(["--fast"])


def test_the_composed_configuration_is_shown_without_running(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "--cfg", "job", "mixing.ratio=1:7"]) == 0
    assert "ratio: 1:7" in capsys.readouterr().out.replace("'", "").replace('"', "")
    assert list(tmp_path.iterdir()) == []


def test_every_command_is_a_module_and_the_functions_of_python_are_loaded_when_they_are_used():
    assert {f"{verb}.py" for verb in cli.VERBS} == {path.name for path in VERBS.glob("[a-z]*.py")} - {"request.py"}
    code = "import sys, nat; print('nat.api' in sys.modules); print(nat.audit.__module__, nat.report.__module__)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "nat.api", "nat.api"]
