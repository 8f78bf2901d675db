"""Composition and strict loading, on the real configuration files."""

import contextlib
import io
import re
import subprocess
import sys

import pytest
import yaml

from nat import cli
from nat.config.kinds import kinds
from nat.config.loading import load
from nat.core.paths import CONF_DIR
from nat.sweeps import composition
from nat.trajectories.detection import FORMATS
from nat.types import RequestError
from tests.conftest import ROOT
from tests.test_experiments import CELLS, SWEEPS

# The objective of each option of `training`: whatever stands in the folder.
OBJECTIVES = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["objective"]
    for path in (CONF_DIR / "training").glob("*.yaml")
}


def compose(*overrides: str):
    return composition.checked(composition.compose(overrides), overrides)


def refused(*overrides: str) -> str:
    """What the command line answers to a wrong request: code 2, at most six lines, no traceback, nothing run."""
    answer = io.StringIO()
    with contextlib.redirect_stderr(answer):
        code = cli.run(["train", *overrides])
    message = answer.getvalue()
    assert code == 2
    assert message.startswith("error: ")
    assert len(message.splitlines()) <= 6, message
    assert "Traceback" not in message
    return message.removeprefix("error: ").rstrip()


def test_the_default_is_nat_at_one_to_one_on_the_built_in_world():
    config = compose()
    assert (config.environment.name, config.mixing.ratio, config.strategy.name) == ("arithmetic", "1:1", "suffix")
    assert (config.model.name, config.training.objective, config.seed) == ("tiny", "sft", 0)


GROUPS = sorted(
    {path.parent.name + "=" + path.stem for path in (ROOT / "conf").glob("*/*.yaml")}
    | {f"trajectories={format.name}" for format in FORMATS}
)


@pytest.mark.parametrize("option", [option for option in GROUPS if not option.startswith(("hydra", "experiment"))])
def test_every_option_of_every_group_composes_and_validates(option, monkeypatch):
    monkeypatch.setenv("SERPER_API_KEY", "of-a-test")
    monkeypatch.chdir(ROOT)
    group, name = option.split("=")
    files = ["trajectories=jsonl", "trajectories.path=x.jsonl"]
    searching = ["environment=hotpotqa", *files, "search.path=pyproject.toml"]
    needed = {
        **{f"environment={name}": files for name in ("gsm8k", "svamp", "multiarith", "asdiv")},
        **{f"environment={name}": [*searching[1:], "search=bm25"] for name in ("hotpotqa", "strategyqa")},
        **{f"search={name}": searching for name in ("bm25", "replay")},
        "search=web": ["environment=hotpotqa", *files],
        "environment=questions": ["environment.questions=q.jsonl", *files],
        "environment=own": files,
        "environment=custom": ["environment.target=a.b:make", *files],
        "quality=strict": files,
        "collect=openai": ["collect.endpoint.model=m"],
        "mixing=replaced": ["mixing.positives=50"],
        "method=replaced": ["mixing.positives=50"],
        "model=hub": ["model.path=tiny"],
    }
    config = compose(option, *needed.get(option, []))
    chosen = getattr(config, group, None)
    if group == "model" and name == "hub":
        assert chosen.name == chosen.path == "tiny"
    elif group in ("environment", "strategy", "model", "agent"):
        assert chosen.name == name
    elif group == "mixing":
        assert chosen.kind == name
    elif group == "training":
        assert chosen.objective == OBJECTIVES[name]


def values_of(group: str, option: str) -> dict:
    """An option's values, those of the options that it stands on included."""
    values = yaml.safe_load((ROOT / "conf" / group / f"{option}.yaml").read_text(encoding="utf-8"))
    others = [other for other in values.pop("defaults", ()) if other != "_self_"]
    return {key: value for other in others for key, value in values_of(group, other).items()} | values


@pytest.mark.parametrize(
    ("group", "option"),
    [
        (group, str(path.relative_to(ROOT / "conf" / group).with_suffix("")))
        for group in kinds()
        for path in sorted((ROOT / "conf" / group).rglob("*.yaml"))
        if "@package" not in path.read_text(encoding="utf-8")
    ],
)
def test_an_option_holds_the_keys_of_its_kind_and_no_other(group, option):
    values = values_of(group, option)
    assert set(values) == set(kinds()[group].keys[values[kinds()[group].tag]])


def test_the_groups_of_several_kinds_are_known_by_their_types():
    assert {group: of_group.tag for group, of_group in kinds().items()} == {
        "environment": "kind",
        "search": "kind",
        "trajectories": "kind",
        "mixing": "kind",
        "training": "objective",
        "collect": "kind",
        "tracking": "kind",
    }
    assert list(kinds()["mixing"].keys) == ["all", "counts", "ratio", "positive_only", "replaced"]
    assert kinds()["training"].keys["none"] == ("objective", "device")


FILES = ("trajectories=jsonl", "trajectories.path=pyproject.toml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # The composed option has no such key: Hydra refuses it.
        (["search.path=x"], "search.path: the chosen option of 'search' has no such key; {bm25 and replay}."),
        (["search.index=null"], "search.index: the chosen option of 'search' has no such key; search=bm25 has it."),
        (
            ["mixing=counts", "mixing.ratio=null"],
            "mixing.ratio: the chosen option of 'mixing' has no such key; mixing=positive_only, mixing=ratio and "
            "mixing=replaced have it.",
        ),
        (
            ["trajectories=jsonl", "trajectories.failures_rate=null"],
            "trajectories.failures_rate: the chosen option of 'trajectories' has no such key; trajectories=scripted "
            "has it.",
        ),
        (
            ["trajectories.path=mine.jsonl"],
            "trajectories.path: the chosen option of 'trajectories' has no such key; {files}.",
        ),
        (["training=none", "training.max_steps=3"], "training.max_steps: {no training} has no such key; {trains}."),
        (
            ["training=none", "training.sft.learning_rate=0.1"],
            "training.sft.learning_rate: {no training} has no such key; {trains}.",
        ),
        (
            ["collect.endpoint.model=m"],
            "collect.endpoint.model: the chosen option of 'collect' has no such key; collect=openai has it.",
        ),
        (
            ["environment.tools=[search]"],
            "environment.tools: the chosen option of 'environment' has no such key; environment=gsm8k, hotpotqa, "
            "questions and strategyqa have it.",
        ),
        # It is in the composed tree all the same: loading refuses it.
        (["search=web", "+search.path=x"], "search.path='x': search=web has no such key; {bm25 and replay}"),
        (
            ["mixing=counts", "+mixing.ratio='1:3'"],
            "mixing.ratio='1:3': mixing=counts has no such key; mixing=positive_only, mixing=ratio and mixing=replaced "
            "have it",
        ),
        (
            ["+environment@also_in.more=arithmetic", "+also_in.more.scorer=numeric"],
            "also_in.more.scorer='numeric': environment=arithmetic has no such key; environment=gsm8k, hotpotqa, "
            "questions and strategyqa have it",
        ),
        (["+collect.as_clas=x"], "collect.as_clas='x': there is no such key; did you mean 'as_class'? {prompted}"),
        (["+collect.seeed=1"], "collect.seeed=1: there is no such key; did you mean 'seed'?"),
        (["training.objective=dpo"], "training.objective='dpo': it must be one of {objectives}"),
        (["mixing.ratio=null"], "mixing.ratio=null: it must be given, as text"),
        # An experiment has set it.
        (
            ["experiment=quality_of_negatives", "trajectories=jsonl", "trajectories.path=x", "hydra.mode=RUN"],
            "trajectories.successes=200: trajectories=jsonl has no such key; trajectories=scripted has it; "
            "trajectories.successes=null takes it out\ntrajectories.failures=1600: trajectories=jsonl has no such key; "
            "trajectories=scripted has it; trajectories.failures=null takes it out",
        ),
    ],
)
def test_a_key_of_another_kind_is_answered_with_the_options_that_have_it(overrides, message):
    *others, last = sorted(["auto", "mapped", *(format.name for format in FORMATS)])
    assert {"alpaca", "chat", "gsm8k_solutions", "jsonl", "nat", "react", "sharegpt"} <= {*others, last}
    training = sorted(name for name, objective in OBJECTIVES.items() if objective != "none")
    assert {"paper", "sft"} <= {*training}
    *first, final = [f"training={name}" for name in training] if len(training) <= 3 else training
    trains = f"{'' if len(training) <= 3 else 'training='}{', '.join(first)} and {final}"
    expected = (
        message.replace("{bm25 and replay}", "search=bm25 and search=replay have it")
        .replace("{no training}", "the chosen option of 'training'")
        .replace("{prompted}", "collect=model and collect=openai have it")
        .replace("{trains}", f"{trains} have it")
        .replace("{objectives}", ", ".join(f"'{name}'" for name in kinds()["training"].keys))
        .replace("{files}", f"trajectories={', '.join(others)} and {last} have it")
    )
    assert refused(*overrides) == expected


def test_null_takes_out_what_another_file_has_set_for_another_kind():
    asked = ("experiment=ratio_sweep", "environment=gsm8k", *FILES, "trajectories.successes=null")
    config = compose(*asked, "trajectories.failures=null")
    assert config.trajectories.kind == "jsonl"
    assert compose("mixing=counts", "+mixing.ratio=null").mixing.kind == "counts"
    with pytest.raises(RequestError, match=r"mixing.ratoi=null: there is no such key; did you mean 'ratio'"):
        compose("mixing=all", "+mixing.ratoi=null")


def test_a_sweep_gives_its_keys_to_all_its_methods():
    """Those of training to the untrained base too, which is one cell whatever they are."""
    common = ["mixing.ratio=1:2", "mixing.hold=total", "mixing.total=90", "sweep.name=s", "training.sft.adam_beta1=0.8"]
    common[-1] = f"+{common[-1]}"
    methods = "method=base,positive_only,nut,nat,replaced"
    planned = composition.plan([methods, *common, "training.max_steps=3,7"], multirun=True)
    trainings = [getattr(cell.config.training, "max_steps", None) for cell in planned.cells]
    assert trainings == [None, 3, 7, 3, 7, 3, 7, 3, 7]
    assert [cell.config.mixing.kind for cell in planned.cells[:1]] == ["positive_only"]
    with pytest.raises(RequestError, match="two cells of this sweep are the same"):
        composition.plan(["method=base", "seed=1,1"], multirun=True)


COMMITTED = [command for command in SWEEPS.values() if CELLS]  # test_experiments.py composes these, in a checkout


@pytest.mark.slow
@pytest.mark.parametrize("option", [one for one in GROUPS if one.startswith("experiment=") and [one] not in COMMITTED])
def test_an_experiment_composes_all_its_cells(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if option == "experiment=self_improvement":  # it trains on what `nat collect` has written
        (tmp_path / "outputs" / "collected").mkdir(parents=True)
        (tmp_path / "outputs" / "collected" / "own.jsonl").write_text("")
    planned = composition.plan([option])
    assert len({cell.directory for cell in planned.cells}) == len(planned.cells) >= 1


def test_every_value_has_a_comment():
    """Values live in YAML, once, each with its meaning: on its line, or above a block."""
    for path in (ROOT / "conf").rglob("*.yaml"):
        if path.parent.name in ("method", "job_logging", "hydra_logging"):  # no values of ours
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if re.match(r"^(  )?[a-z_0-9]+:", line) and not line.startswith(
                ("name:", "kind:", "objective:", "defaults:")
            ):
                above = lines[number - 1] if number else ""
                assert "#" in line or above.lstrip().startswith("#"), f"{path.name}:{number + 1}: {line}"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["strategy=sufix"], ["strategy=sufix", "suffix_plain", "prefix_correct"]),
        (["envirnment=gsm8k"], ["envirnment", "environment"]),
        (["mixing.ratoi=1:3"], ["mixing.ratoi", "mixing.ratio"]),
        (["+mixing.ratoi=1:3"], ["mixing.ratoi='1:3'", "did you mean 'ratio'"]),
        (["++training.max_step=3"], ["training.max_step=3", "did you mean 'max_steps'"]),
        (["+sede=3"], ["sede=3", "did you mean 'seed'"]),
        (["seed=zero"], ["seed='zero'", "a whole number", "str"]),
        (["training.max_steps=many"], ["training.max_steps='many'"]),
        (["mixing.oversample=3"], ["mixing.oversample=3", "true or false"]),
        (["mixing.hold=all"], ["mixing.hold='all'", "'positives', 'total' or 'tokens'"]),
        (["mixing.ratio=63"], ["mixing.ratio", "63 is a number", 'ratio: "1:3"']),
        (["mixing.ratio=0:0"], ["mixing.ratio", "'0:0' asks for nothing"]),
        (["mixing.ratio=1:-2"], ["mixing.ratio", "'1:-2'"]),
        (["mixing.ratio=1:x"], ["mixing.ratio", "'1:x'"]),
        (["mixing.negatives=5"], ["mixing.negatives", "'mixing' has no such key; mixing=counts has it"]),
        (["strategy.infer_as=right"], ["strategy.infer_as", "'right' names no class", "correct, incorrect"]),
        (["evaluation.also_as=[wrong]"], ["'wrong'", "correct, incorrect"]),
        (["environment=gsm8k"], ["environment=gsm8k", "trajectories.path"]),
        (["environment=hotpotqa", "training=none"], ["search=none", "search=bm25", "search=replay", "search=web"]),
        (["quality=strict"], ["quality", "trajectories=scripted", "quality=default", "trajectories=jsonl"]),
        (["quality.secret=0"], ["quality.secret", "0: it must be false (keep), true (drop)"]),
        (["search=web"], ["search=web", "environment=arithmetic", "take search=none"]),
        (["environment=questions"], ["environment.questions", "must be given"]),
        (["model=hub"], ["model.path", "must be given"]),
        (["seed=-1"], ["seed=-1", "greater than or equal to 0"]),
        (["examples=0"], ["examples=0", "greater than 0"]),
        (["mixing.total=5"], ["mixing.total=5", "no effect with hold=positives"]),
        (["mixing.ratio=1:30"], ["100 positives and 3000 negatives", "100 and 900", "feasible mixing.positives is 30"]),
        (["training.sft.learning_rate=nan"], ["nan", "finite"]),
        (["hydra.run.dir=${nope}"], ["nope"]),
        (["trajectories.path=a b=c"], ["needs quotes"]),
        (["format=pdf"], ["format='pdf'", "'terminal' or 'html'"]),
        (["training.max_steps=5", "training.epochs=1"], ["training.max_steps=5", "training.epochs=1", "exactly one"]),
        (["training.sft.seed=3"], ["training.sft", "seed"]),
        (["training.sft.learning_rat=1"], ["Did you mean training.sft.learning_rate?"]),
        (["training.sft.neftune_noise_alpha=1"], ["+training.sft.neftune_noise_alpha=VALUE"]),
        (["mixing.ratio"], ["mixing.ratio", "EQUAL"]),
        (["mixing.ratio=1:0,1:1"], ["mixing.ratio=1:0,1:1", "add -m"]),
    ],
)
def test_a_wrong_request_is_answered_with_key_value_and_remedy(overrides, parts):
    message = refused(*overrides)
    for part in parts:
        assert part in message


def test_several_mistakes_are_listed_at_once():
    message = refused("seed=a", "mixing.hold=b", "evaluation.split=c")
    assert {line.partition("=")[0] for line in message.splitlines()} == {"seed", "mixing.hold", "evaluation.split"}


def test_unquoted_yaml_ratios_are_caught_in_a_users_own_file(tmp_path):
    (tmp_path / "mixing").mkdir()
    original = (ROOT / "conf" / "mixing" / "ratio.yaml").read_text()
    (tmp_path / "mixing" / "mine.yaml").write_text(original.replace('ratio: "1:1"', "ratio: 1:3"))
    with pytest.raises(RequestError, match="63 is a number; write it in quotes"):
        composition.plan(["mixing=mine"], config_dir=str(tmp_path))


def test_a_users_own_strategy_joins_by_config_dir(tmp_path):
    (tmp_path / "strategy").mkdir()
    mine = yaml.safe_load((ROOT / "conf" / "strategy" / "prefix_correct.yaml").read_text())
    mine |= {"name": "mine"}
    mine["classes"][0]["text"] = "[Genau]"
    (tmp_path / "strategy" / "mine.yaml").write_text(yaml.safe_dump(mine))
    planned = composition.plan(["strategy=mine"], config_dir=str(tmp_path))
    assert planned.cells[0].config.strategy.classes[0].text == "[Genau]"


@pytest.mark.parametrize(
    ("classes", "part"),
    [
        (
            [{"name": "a", "when": {"field": "score", "above": 0.5}, "text": ""}],
            "strategy.classes: no class takes score = 0.0",
        ),
        ([{"name": "a", "when": {"feild": "score"}, "text": ""}], "feild"),
        ([{"name": "a", "txt": ""}], "strategy.classes.0.txt=''"),
    ],
)
def test_a_users_broken_strategy_is_refused(tmp_path, classes, part):
    (tmp_path / "strategy").mkdir()
    mine = {"name": "mine", "classes": classes, "place": "prefix", "infer_as": "a"}
    (tmp_path / "strategy" / "mine.yaml").write_text(yaml.safe_dump(mine))
    with pytest.raises(RequestError) as error:
        composition.plan(["strategy=mine"], config_dir=str(tmp_path))
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], (400, None)),
        (["training.epochs=2"], (None, 2.0)),
        (["training.max_steps=7"], (7, None)),
        (["training.max_steps=null", "training.epochs=0.5"], (None, 0.5)),
    ],
)
def test_giving_one_budget_clears_the_other(overrides, expected):
    training = compose(*overrides).training
    assert (training.max_steps, training.epochs) == expected


@pytest.mark.parametrize(
    ("overrides", "negatives", "expected"),
    [
        (["method=base"], 0, "base"),
        (["method=positive_only"], 0, "positive_only"),
        (["method=nut"], 9, "nut"),
        (["method=nat"], 9, "nat"),
        (["method=nat_graded"], 9, "nat_graded"),
        (["strategy=none"], 9, "nut"),
        (["strategy=prefix_objects"], 9, "nat"),
        (["mixing.ratio=1:0"], 0, "positive_only"),
    ],
)
def test_the_method_is_derived_from_what_is_trained_on(overrides, negatives, expected):
    assert compose(*overrides).method(negatives) == expected


def test_a_method_can_be_changed_in_parts():
    config = compose("method=nut", "mixing.ratio=1:3", "strategy=prefix_correct")
    assert (config.mixing.kind, config.mixing.ratio, config.strategy.name) == ("ratio", "1:3", "prefix_correct")
    assert compose("method=positive_only", "mixing.ratio=1:3").mixing.kind == "positive_only"


def test_a_sweep_composes_names_and_checks_every_cell():
    planned = composition.plan(["mixing.ratio=1:0,1:1,1:3", "seed=4", "sweep.name=s"], multirun=True)
    assert [cell.config.mixing.ratio for cell in planned.cells] == ["1:0", "1:1", "1:3"]
    assert [cell.config.seed for cell in planned.cells] == [4, 4, 4]
    names = [cell.directory.name for cell in planned.cells]
    assert [name.rpartition("-")[0] for name in names] == ["ratio=1to0", "ratio=1to1", "ratio=1to3"]
    assert all(str(cell.directory.parent) == "outputs/sweeps/s" for cell in planned.cells)
    with pytest.raises(RequestError, match="'1:x'"):
        composition.plan(["mixing.ratio=1:0,1:x"], multirun=True)
    with pytest.raises(RequestError, match="two cells of this sweep are the same"):
        composition.plan(["seed=1,1"], multirun=True)


@pytest.mark.parametrize(
    ("swept", "name"),
    [
        (["seed=0", "mixing.ratio='1:3'"], "ratio=1to3,seed=0-0123abcd"),
        (["mixing.ratio=1\\:3"], "ratio=1to3-0123abcd"),
        (["trajectories.path='/a b/c=d.jsonl'"], "path=_a_b_c=d.jsonl-0123abcd"),
        (["+training.sft.adam_beta1=0.8"], "adam_beta1=0.8-0123abcd"),
        ([], "cell-0123abcd"),
        (["k=" + "x" * 500], "k=" + "x" * 118 + "-0123abcd"),
    ],
)
def test_cell_names_are_safe_and_unique(swept, name):
    assert composition.cell_name(swept, "0123abcd4567ef89") == name


@pytest.mark.slow
def test_two_commands_in_one_sweep_directory_do_not_share_cells():
    def names(*overrides: str) -> list[str]:
        planned = composition.plan([*overrides, "sweep.name=s"], multirun=True)
        return [cell.directory.name for cell in planned.cells]

    assert not set(names("mixing.ratio=1:0,1:1", "seed=0")) & set(names("mixing.ratio=1:0,1:1", "seed=1"))
    whole = names("experiment=demo")
    assert set(names("experiment=demo", "method=nat")) < set(whole)
    assert len(whole) == 4


def test_a_tree_with_a_missing_group_is_refused():
    tree = composition.resolved(composition.compose([]))
    del tree["mixing"]
    with pytest.raises(RequestError, match="mixing: is missing"):
        load(tree)


def test_configuration_is_checked_without_torch_and_templates():
    code = (
        "import sys; from nat.sweeps import composition; composition.plan(['mixing.ratio=1:2']);"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'wandb', 'scipy', 'jinja2'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"name: mine\ntext: [Correct] now\n", "mine.yaml:2"),
        (b"name: mine\nname: again\n", "mine.yaml:2"),
        (b"name: \xff\n", "not valid YAML"),
        (b"name: 'open\n", "mine.yaml"),
    ],
)
def test_a_users_file_that_is_no_yaml_is_named_with_its_line(tmp_path, content, where):
    (tmp_path / "strategy").mkdir()
    (tmp_path / "strategy" / "mine.yaml").write_bytes(content)
    with pytest.raises(RequestError) as error:
        composition.plan(["strategy=mine"], config_dir=str(tmp_path))
    assert where in str(error.value)
    assert len(str(error.value).splitlines()) <= 6


def test_a_prepared_sweeps_axes_can_be_narrowed_without_the_flag():
    planned = composition.plan(["experiment=ratio_sweep", "mixing.ratio='1:0','1:4'", "mixing.positives=50", "seed=0"])
    assert {(cell.config.mixing.ratio, cell.config.strategy.name) for cell in planned.cells} == {
        ("1:0", "none"),
        ("1:0", "suffix"),
        ("1:4", "none"),
        ("1:4", "suffix"),
    }
    with pytest.raises(RequestError, match="To sweep over several values, add -m"):
        composition.plan(["seed=0,1"])


def test_a_sweep_may_use_hydras_own_ways_to_name_values_and_directories():
    planned = composition.plan(["strategy=glob(prefix_*)", "sweep.name=s"], multirun=True)
    names = sorted(cell.config.strategy.name for cell in planned.cells)
    assert names == ["prefix_correct", "prefix_good", "prefix_letters", "prefix_numbers", "prefix_objects"]
    planned = composition.plan(["seed=range(0,3)", "hydra.sweep.dir=x"], True)
    assert [str(cell.directory)[:9] for cell in planned.cells] == ["x/seed=0-", "x/seed=1-", "x/seed=2-"]
    with pytest.raises(RequestError, match=r"hydra\.sweep\.subdir: nat names"):
        composition.plan(["seed=range(0,3)", "hydra.sweep.subdir=mine"], True)
    with pytest.raises(RequestError):
        composition.plan(["seed=interval(0,3)"], multirun=True)


def test_a_sweep_with_an_infeasible_cell_does_not_start():
    with pytest.raises(RequestError, match="asks for 100 positives and 3000 negatives"):
        composition.plan(["mixing.ratio=1:0,1:1,1:30"], multirun=True)
