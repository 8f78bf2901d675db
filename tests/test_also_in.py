"""One trained model asked in further environments: what is asked there, what is refused, what makes another cell."""

import csv
import json

import pytest

from nat import cli, run
from nat.sweeps import cells, composition
from nat.sweeps.cell_hash import cell_hash
from nat.types import RequestError

LONGER = ("+environment@also_in.longer=arithmetic", "also_in.longer.steps={min: 5, max: 6}")
HELD_OUT = ("environment=gsm8k", "trajectories=jsonl", "trajectories.path=mine.jsonl", "mixing=all", "quality=none")


def config_of(*overrides: str):
    return composition.checked(composition.compose(overrides), overrides)


def refused(*overrides: str) -> str:
    with pytest.raises(RequestError) as error:
        config_of(*overrides)
    return str(error.value)


def test_a_further_environment_must_be_another_one_with_questions_and_a_name_for_files():
    assert refused("+environment@also_in.same=arithmetic") == (
        "also_in.same: is the environment of training itself; change or leave out a key of it."
    )
    assert refused("+environment@also_in.svamp=svamp").startswith("also_in.svamp.questions=held_out: only the training")
    assert refused(*LONGER, "also_in.longer.stpes=1") == (
        "also_in.longer.stpes: there is no key 'stpes' in 'also_in.longer'. Did you mean also_in.longer.steps?"
    )
    assert refused(*LONGER, "also_in.longer.max_turns=0") == (
        "also_in.longer.max_turns=0: it must be greater than or equal to 1"
    )
    searched = ("+environment@also_in.hop=hotpotqa", "also_in.hop.questions=dev.json")
    assert refused(*searched).startswith("search=none: also_in.hop (hotpotqa) has the tool search")
    assert "also_in.a-b: a name is letters" in refused("+environment@also_in.a-b=arithmetic", "also_in.a-b.seed=1")


def test_null_takes_out_what_an_experiment_names():
    config = config_of("experiment=methods_by_benchmark", "also_in.larger=null")
    assert list(config.also_in) == ["longer", "other_verbs"]


def test_cells_are_told_apart_by_what_they_are_also_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, longer = cell_hash(config_of()), cell_hash(config_of(*LONGER))
    assert len({plain, longer, cell_hash(config_of(*LONGER, "also_in.longer.max_turns=10"))}) == 3
    asked = ("+environment@also_in.mine=svamp", "also_in.mine.questions=q.jsonl")
    (tmp_path / "q.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n')
    before = cell_hash(config_of(*asked))
    (tmp_path / "q.jsonl").write_text('{"question": "2+3?", "answer": "5"}\n')
    assert cell_hash(config_of(*asked)) != before


def test_nothing_is_trained_on_that_is_asked_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    messages = [{"role": "assistant", "content": "Thought: add.\nAction: finish[4]"}]
    outcome = {"success": True, "prediction": "4", "reference": "4"}
    rows = [{"question": f"What is {n} + 1?", "messages": messages, "outcome": outcome} for n in range(40)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ("+environment@also_in.other=svamp", "also_in.other.questions=other.jsonl", "also_in.other.on_bad_row=drop")
    alone = run.gather(config_of(*HELD_OUT)).apart
    taken = alone.kept[0].question
    (tmp_path / "other.jsonl").write_text(
        f'{{"question": "{taken.lower()}", "answer": "4"}}\n{{"question": "", "answer": "1"}}\n'
    )
    both = run.gather(config_of(*HELD_OUT, *asked))
    assert [t.question for t in alone.kept if t not in both.apart.kept] == [taken]
    assert [question.text for question in both.elsewhere["other"].questions] == [taken.lower()]
    assert len(both.left_out["questions_left_out"]) == 1  # the row without a question
    with pytest.raises(RequestError, match=r"^also_in\.other\.questions=other\.jsonl: 1 of 2 rows"):
        run.gather(config_of(*HELD_OUT, *asked[:2]))


@pytest.mark.slow
def test_a_run_asks_everywhere_and_keeps_each_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ("training.max_steps=2", "tracking=none", "trajectories.failures=100", "mixing.ratio='1:1'")
    assert (
        cli.run(["train", *LONGER, *quick, "evaluation.n_questions=3", "evaluation.also_as=[]", "hydra.run.dir=r"]) == 0
    )
    assert "in longer: 0." in capsys.readouterr().out
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    asked = [tuple(one[key] for key in ("kind", "split", "environment", "n_questions")) for one in results["passes"]]
    assert asked == [("inference", "test", "arithmetic", 3), ("also_in", "test", "longer", 3)]
    with open(tmp_path / "r" / "outcomes.csv", newline="") as file:
        rows = [(row["kind"], row["split"], row["environment"]) for row in csv.DictReader(file)]
    assert rows == [("inference", "test", "arithmetic")] * 3 + [("also_in", "test", "longer")] * 3
    with open(tmp_path / "r" / "rollouts_in_longer.jsonl") as file:
        steps = [len(json.loads(line)["question"]["metadata"]["steps"]) for line in file]
    assert len(steps) == 3 and set(steps) <= {5, 6}


def test_failures_of_another_policy_leave_the_successes_as_they_are():
    numbers = ("trajectories.successes=5", "trajectories.failures=5")
    usual = run.trajectories_of(config_of(*numbers, "mixing=all"))
    worse = run.trajectories_of(config_of(*numbers, "mixing=all", "trajectories.failures_rate=0.6"))
    same = run.trajectories_of(config_of(*numbers, "mixing=all", "trajectories.failures_rate=0.15"))
    assert same == usual
    assert {t.id for t in worse if t.outcome.success} == {t.id for t in usual if t.outcome.success}
    failures = [t for t in worse if not t.outcome.success]
    assert [t.metadata["failure_rate"] for t in failures] == [0.6] * 5
    assert all(t.id.endswith("@0.6") for t in failures) and len({t.id for t in worse}) == 10
    assert (
        "trajectories.failures_rate: the chosen option of 'trajectories' has no such key; trajectories=scripted has it"
        in refused("trajectories=jsonl", "trajectories.path=x.jsonl", "trajectories.failures_rate=0.3")
    )


@pytest.mark.parametrize("world", ["multihop", "strategic"])
def test_a_search_world_can_be_asked_too(world):
    config = config_of("environment=multihop", f"+environment/worlds@also_in.x={world}", "also_in.x.seed=3")
    assert (config.also_in["x"].name, config.model.name) == (world, "tiny_search")
    message = refused("environment=multihop", f"+environment@also_in.x={world}")
    assert (
        message.startswith("also_in.x: this environment brings a model") and "+environment/worlds@also_in.x" in message
    )


def test_what_is_wrong_in_a_further_environment_is_named_with_its_remedy():
    longer = "+environment@also_in.longer=arithmetic"
    assert "also_in.longer.stpes={'max': 6}: there is no such key; did you mean 'steps'?" in refused(
        longer, "+also_in.longer.stpes={max: 6}"
    )
    choose = "it must be a whole environment; choose one with +environment@also_in.longer=arithmetic"
    assert choose in refused("+also_in.longer.steps.max=9")
    assert choose in refused("+also_in.longer=arithmetic")
    svamp = ("+environment@also_in.svamp=svamp", "also_in.svamp.questions=svamp.jsonl")
    assert "also_in.svamp.questions=svamp.jsonl is a test set" in refused(*svamp, "evaluation.split=validation")
    hop = ("+environment@also_in.hop=hotpotqa", "also_in.hop.questions=dev.json")
    assert "search=bm25" in refused(*hop)
    config_of(*hop, "evaluation=none")  # nothing is played


def test_a_policy_that_never_errs_earns_no_failures():
    assert "failures_rate=0.0: a policy that never errs" in refused("trajectories.failures_rate=0.0")


def test_a_sweep_reads_the_questions_of_further_environments_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    asked = ("+environment@also_in.svamp=svamp", "also_in.svamp.questions=there.jsonl,missing.jsonl")
    with pytest.raises(RequestError, match=r"missing\.jsonl"):
        cells.check_data(composition.plan(["tracking=none", *asked], multirun=True))
