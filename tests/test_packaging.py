"""What a user gets from `pip install`: a wheel, built from the source distribution, that works in an empty folder."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


def execute(*command: str, cwd: Path) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    # Without --wheel or --sdist, the wheel is built from the unpacked sdist. The environment's own hatchling builds it.
    execute(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT), cwd=out)
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_configuration_model_and_templates(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "nat/conf/config.yaml",
        "nat/assets/tiny/model.safetensors",
        "nat/assets/plain.jinja",
        "nat/assets/report.css",
    } <= names
    in_repository = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert {name.removeprefix("nat/") for name in names if name.startswith("nat/conf/")} == in_repository
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "nat" / "assets").glob("*.html.jinja")}
    assert len(templates) == 5
    assert templates <= names
    assert not [name for name in names if name.startswith(("tests/", "experiments/", "conf/"))]


@pytest.mark.slow
def test_nat_train_works_from_the_wheel_in_an_empty_folder(wheel, tmp_path):
    site = tmp_path / "site"
    execute(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel), cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    # -I would hide --target's folder; this puts it first and proves that it is what runs.
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import nat; assert nat.__file__.startswith({str(site)!r});"
        "from nat import cli; sys.exit(cli.run(sys.argv[1:]))"
    )
    conf = tmp_path / "mine" / "strategy"
    conf.mkdir(parents=True)
    text = (ROOT / "conf" / "strategy" / "prefix_correct.yaml").read_text()
    (conf / "mine.yaml").write_text(text.replace("[Correct]", "[Yes]"))
    arguments = ("--config-dir", str(conf.parent), "strategy=mine", "training.max_steps=1", "evaluation.n_questions=2")
    execute(sys.executable, "-c", code, "train", *arguments, "tracking=none", "hydra.run.dir=r", cwd=empty)
    assert "[Yes]" in (empty / "r" / "config.yaml").read_text()
    assert {path.name for path in empty.iterdir()} == {"r"}


def test_versions_are_pinned_once():
    """Every dependency has a range in the metadata and an exact version among the constraints."""
    project = (ROOT / "pyproject.toml").read_text()
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    block = project.split("dependencies = [", 1)[1].split("]\n", 1)[0]
    required = re.findall(r'"([a-z0-9-]+)[><=]', block)
    assert len(required) >= 12
    assert set(required) <= pinned
