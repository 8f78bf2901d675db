"""An environment of the user's, from a package outside the repository."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from pydantic import TypeAdapter, ValidationError

from nat.agents.turns import play
from nat.environments import custom
from nat.environments.benchmarks import load_questions
from nat.environments.custom import CustomConfig, make_environment, own_questions, source_files
from nat.sweeps.composition import compose, resolved
from nat.types import Question, RequestError, Score, StageError
from tests.conftest import ROOT

VALUES = {
    "name": "custom",
    "kind": "custom",
    "options": {},
    "questions": None,
    "held_out": 0.2,
    "fields": {"id": None, "question": "question", "answer": "answer"},
    "on_bad_row": "error",
    "max_turns": None,
    "instructions": None,
    "few_shot": None,
}
LIGHTS = """
from nat.types import Environment, Question, Score, Tool, ToolError

from .rooms import NAMES


class House:
    def __init__(self, rooms: int) -> None:
        self.rooms, self.lit = NAMES[:rooms], set()

    def toggle(self, room: str) -> str:
        if room not in self.rooms:
            raise ToolError(f"there is no room {room!r}")
        self.lit ^= {room}
        return f"lit: {len(self.lit)}"


def make(rooms: int = 2, strict: bool = True) -> Environment:
    def open_tools(question: Question) -> tuple[Tool, ...]:
        return (Tool("toggle", House(rooms).toggle),)

    def questions(split: str, n: int) -> list[Question]:
        first = {"train": 0, "validation": 1000, "test": 2000}[split]
        return [Question(f"{split}-{i}", f"House {first + i}: light a room. How many are lit?", "1") for i in range(n)]

    def score(prediction: str, reference: str) -> Score:
        return Score(prediction == reference, 1.0 if prediction == reference else 0.25)

    tools = open_tools(Question("", "", ""))
    return Environment("lights", "Light it.", tools, score, 4, open_tools=open_tools, questions=questions)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`lit_house.worlds:make`, on PYTHONPATH, and a way to write other modules beside it."""
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # where the current directory is added
    before = set(sys.modules)

    def write(name: str, text: str):
        path = tmp_path / "elsewhere" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    write("lit_house/__init__.py", "")
    write("lit_house/rooms.py", "NAMES = ['hall', 'attic', 'cellar']\n")
    write("lit_house/worlds.py", LIGHTS)
    yield write
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("lit_house", "mine", "here_alone"):
            del sys.modules[name]


def config(target: str = "lit_house.worlds:make", **changes) -> CustomConfig:
    values = {**VALUES, "target": target, **changes}
    return TypeAdapter(CustomConfig).validate_json(json.dumps(values), strict=True)


def test_a_function_of_a_package_makes_the_environment(package):
    environment = make_environment(config(name="lights3", options={"rooms": 3}))
    assert (environment.name, environment.instructions, environment.max_turns) == ("lights3", "Light it.", 4)
    assert environment.score("1", "1") == Score(True, 1.0)
    assert environment.score("2", "1") == Score(False, 0.25)
    assert [tool.name for tool in environment.tools] == ["toggle"]


def test_the_modules_own_example_runs(package):
    text = (custom.__doc__ or "").partition("guesses:\n")[2]
    package("mine.py", textwrap.dedent(text))
    environment = make_environment(config("mine:make", options={"largest": 9}))
    first, second = own_questions(environment, "test", 2)
    assert first.text == "Which number up to 9 is on test card 0?"
    assert own_questions(environment, "test", 1) == [first] and first.text != second.text
    observed = []
    for guesses in ([f"{first.answer}.0", "10"], ["11"]):  # two episodes
        turns = [*(f"Action: guess[{guess}]" for guess in guesses), f"Action: finish[{first.answer}]"]
        rollout = play(environment, first, lambda messages, turns=turns: turns[len(messages) // 2])
        assert rollout.outcome.success
        observed.append([message.content for message in rollout.messages if message.role == "tool"])
    assert observed == [["guess 1: right", "guess 2: wrong"], ["guess 1: wrong"]]


def test_the_configuration_may_replace_instructions_and_turns(package):
    environment = make_environment(config(instructions=" Now light it.\n", max_turns=9))
    assert (environment.instructions, environment.max_turns) == ("Now light it.", 9)
    assert make_environment(config(instructions="")).instructions == ""


def test_tools_keep_their_state_for_one_episode_and_no_longer(package):
    environment = make_environment(config(options={"rooms": 2}))
    assert environment.open_tools is not None
    question = Question("q", "?", "1")
    (one,), (other,) = environment.open_tools(question), environment.open_tools(question)
    assert [one.run("hall"), one.run("attic"), other.run("hall"), one.run("hall")] == [
        "lit: 1",
        "lit: 2",
        "lit: 1",
        "lit: 1",
    ]


def test_an_environment_may_ask_its_own_questions(package):
    environment = make_environment(config())
    assert [question.id for question in own_questions(environment, "test", 2)] == ["test-0", "test-1"]
    assert own_questions(environment, "validation", 1)[0].text == "House 1000: light a room. How many are lit?"


def test_it_may_be_asked_questions_of_a_file(package, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "House 7?", "answer": 1}\n')
    asked = config(questions=str(path))
    environment = make_environment(asked)
    assert asked.questions is not None
    loaded = load_questions(asked.questions, asked.fields, asked.on_bad_row, environment.score)
    assert loaded.questions == [Question("q-0", "House 7?", "1")]


def test_the_current_directory_is_looked_in_last(package, tmp_path):
    (tmp_path / "here_alone.py").write_text(LIGHTS.replace("from .rooms import NAMES", "NAMES = ['hall']"))
    (tmp_path / "json.py").write_text("raise ValueError('not the library')\n")
    assert make_environment(config("here_alone:make")).name == "custom"
    assert sys.path[-1] == str(tmp_path)
    del sys.modules["json"]
    import json as again

    assert again.loads("[1]") == [1]
    sys.modules["json"] = json


def test_the_yaml_composes(package):
    overrides = ["environment=custom", "environment.target=lit_house.worlds:make", "+environment.options.rooms=3"]
    tree = resolved(compose(overrides))["environment"]
    composed = TypeAdapter(CustomConfig).validate_json(json.dumps(tree), strict=True)
    assert composed == config(options={"rooms": 3})
    with pytest.raises(RequestError, match="target: must be given"):
        resolved(compose(["environment=custom"]))


@pytest.mark.parametrize("target", ["make", "a.b", "a:b:c", "a/b.py:make", ":make", "a:", "a b:make", "a..b:make", ""])
def test_a_target_is_module_and_function(target):
    with pytest.raises(ValidationError, match=r"target=.*: it must be PACKAGE\.MODULE:FUNCTION"):
        config(target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_thing:make", r"target=no_such_thing:make: there is no module 'no_such_thing', .*\n.*PYTHONPATH"),
        ("lit_house.absent:make", r"there is no module 'lit_house\.absent'"),
        ("lit_house.worlds:mak", r"'lit_house\.worlds' has no 'mak'; its functions: .*House, make"),
        ("lit_house.worlds:NAMES", "it is an object of type list, not a function"),
        ("lit_house.worlds:make.absent", "has no 'absent'"),
        ("lit_house.worlds:House", r"failed with environment\.options=\{\}: TypeError: .*rooms"),
        ("mine:missing_library", r"importing 'mine' failed: ModuleNotFoundError: .*'absent_library' \(.*mine\.py:1\)"),
    ],
)
def test_what_cannot_be_called(package, target, message):
    package("mine.py", "import absent_library\n")
    with pytest.raises(RequestError, match=message):
        make_environment(config(target))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('rooms must be positive')", r"options=\{\"n\": 1\}: ValueError: rooms .*mine\.py:3\)"),
        ("return None", "it returned None, not a nat.types.Environment"),
        ("return 7", "it returned an object of type int, not a"),
        ("return Environment('a', '', (print,), score, 1)", "has tools=.*must be a tuple of nat.types.Tool"),
        ("return Environment('a', '', (Tool('Finish', str),), score, 1)", "has a tool named 'finish'"),
        ("return Environment('a', '', (Tool('look up', str),), score, 1)", "has a tool named 'look up'"),
        ("return Environment('a', '', (Tool('x', str), Tool('X', str)), score, 1)", "has two tools named 'x'"),
        ("return Environment('a', '', (), 1, 1)", "has a score that is no function"),
        ("return Environment('a', '', (), score, 0)", "has max_turns=0, which must be a whole number of at least 1"),
        ("return Environment('a', None, (), score, 1)", "has instructions=None, which must be text"),
        ("raise RequestError('rooms: my own words')", "^rooms: my own words$"),
    ],
)
def test_what_is_no_environment(package, body, message):
    package("mine.py", f"from nat.types import *\ndef make(n, score=print):\n    {body}\n")
    with pytest.raises(RequestError, match=message):
        make_environment(config("mine:make", options={"n": 1}))


def test_a_module_with_a_mistake_is_named_with_its_line(package):
    package("mine.py", "x = 1\nx.y\n")
    with pytest.raises(RequestError, match=r"importing 'mine' failed: AttributeError: .*\(.*mine\.py:2\)"):
        make_environment(config("mine:make"))
    package("mine.py", "def make(:\n")
    with pytest.raises(RequestError, match=r"importing 'mine' failed: SyntaxError"):
        make_environment(config("mine:make"))


def test_a_score_that_is_none_is_refused_and_a_broken_one_named(package):
    package(
        "mine.py", "from nat.types import *\ndef make(score):\n    return Environment('a', '', (), eval(score), 1)\n"
    )
    for text, shown in [
        ("True", "True"),
        ("0.5", "0.5"),
        ("(True, 2.0)", r"\(True, 2.0\)"),
        ("(1, 1.0)", r"\(1, 1.0\)"),
    ]:
        environment = make_environment(config("mine:make", options={"score": f"lambda p, r: {text}"}))
        with pytest.raises(RequestError, match=rf"score\('a', 'b'\) gave {shown}; it must be nat.types.Score"):
            environment.score("a", "b")
    environment = make_environment(config("mine:make", options={"score": "lambda p, r: int(p)"}))
    with pytest.raises(StageError, match=r"target=mine:make: score\('a', 'b'\) failed: ValueError: invalid literal"):
        environment.score("a", "b")


def test_questions_that_never_end_are_asked_as_far_as_needed(package):
    package(
        "mine.py",
        "from itertools import count\nfrom nat.types import *\ndef make():\n    questions = lambda split, n: ("
        "Question(str(i), '?', '1') for i in count())\n"
        "    return Environment('a', '', (), print, 1, questions=questions)\n",
    )
    found = own_questions(make_environment(config("mine:make")), "test", 3)
    assert [question.id for question in found] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("None", "makes no questions itself.\nName a file"),
        ("lambda split, n: []", "the environment custom has no test questions"),
        ("lambda split, n: ['why?']", r"questions\('test', 3\) gave an object of type str among its questions"),
        ("lambda split, n: [Question('a', 'b', 'c')] * n", r"questions\('test', 3\) gave the id 'a' twice"),
        ("lambda split, n: {}[split]", r"questions\('test', 3\) failed: KeyError: 'test'"),
    ],
)
def test_questions_that_are_none(package, body, message):
    package(
        "mine.py",
        f"from nat.types import *\ndef make():\n    return Environment('a', '', (), print, 1, questions={body})\n",
    )
    with pytest.raises(RequestError, match=message):
        own_questions(make_environment(config("mine:make")), "test", 3)


def test_an_edit_of_the_package_can_be_seen(package):
    """Every Python file of the target's package is part of what a result depends on."""
    names = [path.name for path in source_files(config())]
    assert names == ["__init__.py", "rooms.py", "worlds.py"]
    alone = package("mine.py", "def make(): ...\n")
    assert source_files(config("mine:make")) == [alone]
    package("lit_house/deep/__init__.py", "def make(): ...\n")
    parents = [path.parent.name for path in source_files(config("lit_house.deep:make"))]
    assert parents == ["lit_house", "deep", "lit_house", "lit_house"]
    with pytest.raises(RequestError, match="there is no module"):
        source_files(config("no_such_thing:make"))


@pytest.mark.slow
def test_it_runs_from_the_command_line(package, tmp_path):
    command = [sys.executable, "-m", "nat", "train", "method=base", "environment=custom", "tracking=none"]
    command += ["environment.target=lit_house.worlds:make", "+environment.options.rooms=3"]
    command += ["evaluation.n_questions=2", "hydra.run.dir=run"]
    paths = f"{tmp_path / 'elsewhere'}:{ROOT}"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": paths, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["status"], results["environment"], results["n_questions"]) == ("completed", "custom", 2)
