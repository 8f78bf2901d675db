"""The paper's experiments at the three scales: what they compose to, and one optimiser step of a random model."""

import json
from pathlib import Path

import pytest

from nat import cli
from nat.examples.tokenization import chat_format
from nat.model import save_model
from nat.reporting import write as writing
from nat.sweeps import composition
from nat.types import Message
from tests.tokenizers_for_tests import sentencepiece_tokenizer, tiny_llama

GSM8K = "data/dataset/gsm8k/"
QUESTIONS = {  # environment: those it is asked, those its trajectories are joined with
    "gsm8k": ("data/dataset/gsm8k/test.json", "data/dataset/gsm8k/train.json"),
    "hotpotqa": ("data/dataset/hotpotqa/dev_random_500.json", "data/dataset/hotpotqa/train_random_8000.json"),
    "strategyqa": ("data/dataset/strategyqa/test_random_500.jsonl", "data/dataset/strategyqa/train.jsonl"),
}
# experiment: environment, successes, failures for each or in all, passes or steps, test questions, number of cells
PAPER = {
    "none": ("gsm8k", 5000, "1:2", 2.0, 1319, 1),
    "demo": ("gsm8k", 5000, "1:2", 2.0, 1319, 4),
    "ratio_sweep": ("gsm8k", 5000, 10000, 2.0, 1319, 52),
    "strategies": ("gsm8k", 2000, "1:5", 2.0, 1319, 9),
    "scarcity": ("gsm8k", 5000, "1:2", 2.0, 1319, 16),
    "agent_style": ("gsm8k", 5000, "1:2", 2.0, 1319, 8),
    "controls": ("gsm8k", 2000, "1:1.5", 156, 1319, 5),
    "equal_epochs": ("gsm8k", 2000, "1:1.5", 2.0, 1319, 3),
    "self_improvement": ("gsm8k", 2000, "1:2", 2.0, 1319, 3),
    "hotpotqa": ("hotpotqa", 500, "1:2", 2.0, 500, 9),
    "strategyqa": ("strategyqa", 500, "1:2", 2.0, 500, 3),
    "methods_by_benchmark": ("gsm8k", 5000, "1:2", 2.0, 2500, 3),
    "quality_of_negatives": ("gsm8k", 5000, "1:1.2", 2.0, 1319, 4),
}


def checked(*overrides: str):
    """The configuration of a command, and the axes of its sweep as overrides."""
    composed = composition.compose(overrides)
    axes = [f"{key}={values}" for key, values in (composed.hydra.sweeper.params or {}).items() if values]
    return composition.checked(composed, overrides), axes


def cells(axes: list[str]) -> list[list[str]]:
    return composition._batches(axes)


@pytest.fixture
def search_key(monkeypatch):
    monkeypatch.setenv("SERPER_API_KEY", "of-a-test")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_scale_has_the_papers_values(name, search_key):
    environment, positives, negatives, budget, n_questions, n_cells = PAPER[name]
    config, axes = checked(f"experiment={name}", "scale=paper", *(["search=web"] if n_questions == 500 else []))
    mixing, training, sft = config.mixing, config.training, config.training.sft
    assert (config.environment.name, mixing.positives) == (environment, positives)
    assert (mixing.negatives if mixing.kind == "counts" else mixing.ratio) == negatives
    assert (training.epochs if training.max_steps is None else training.max_steps) == budget
    assert (config.model.path, config.model.max_length) == ("meta-llama/Llama-2-7b-chat-hf", 4096)
    assert (config.model.lora, config.model.dtype, training.objective) == (None, "float32", "sft")
    assert (training.processes, training.sharding) == (4, "fsdp2")
    batch = training.processes * sft["per_device_train_batch_size"] * sft["gradient_accumulation_steps"]
    assert (batch, sft["learning_rate"], sft["lr_scheduler_type"], sft["warmup_steps"]) == (64, 5e-5, "cosine", 0.03)
    assert (config.evaluation.n_questions, config.evaluation.decoding.temperature) == (n_questions, 0.2)
    of_its_own = name == "self_improvement"
    asked, joined = QUESTIONS[environment]
    assert config.environment.questions == asked
    assert getattr(config.trajectories, "questions", None) == (None if of_its_own else joined)
    folder = f"data/dataset/{environment}/{environment}_gpt-3.5_"
    files = "outputs/collected/own.jsonl" if of_its_own else [f"{folder}positive.json", f"{folder}negative.json"]
    kind = {"self_improvement": "jsonl", "quality_of_negatives": "auto"}.get(name, "nat")
    assert (config.trajectories.kind, config.trajectories.path) == (kind, files)
    found = cells(axes) if name != "none" else [[]]
    assert len(found) == n_cells


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PAPER if name != "none"])
def test_the_first_and_the_last_cell_of_a_paper_sweep_are_possible(name, search_key):
    searched = ["search=web"] if name in ("hotpotqa", "strategyqa") else []
    found = cells(checked(f"experiment={name}", "scale=paper", *searched)[1])
    for cell in (found[0], found[-1]):
        checked(f"experiment={name}", "scale=paper", *searched, *cell)


def test_the_papers_figure_goes_to_twelve_thousand_failures_at_two_sizes():
    _, axes = checked("experiment=ratio_sweep", "scale=paper")
    last, _ = checked("experiment=ratio_sweep", "scale=paper", *cells(axes)[-1])
    assert (last.mixing.kind, last.mixing.positives, last.mixing.negatives) == ("counts", 5000, 12000)
    assert last.strategy.name == "suffix"
    numbers = {pair for cell in cells(axes) for pair in cell if pair.startswith("mixing.negatives=")}
    assert numbers == {f"mixing.negatives={thousands * 1000}" for thousands in range(13)}


def test_the_papers_larger_model_is_one_override():
    config, _ = checked("experiment=ratio_sweep", "scale=paper", "model=llama2_13b")
    assert (config.model.path, config.model.lora) == ("meta-llama/Llama-2-13b-chat-hf", None)
    assert (config.training.processes, config.training.sharding) == (4, "fsdp2")


@pytest.mark.slow
def test_the_base_is_not_trained_at_any_scale():
    for scale in ("tiny", "single_gpu", "paper"):
        assert checked("experiment=demo", f"scale={scale}", "method=base")[0].training.objective == "none"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PAPER, "failure_rates"])
def test_one_gpu_trains_adapters_on_the_experiments_own_world_and_counts(name):
    tiny, tiny_axes = checked(f"experiment={name}")
    config, axes = checked(f"experiment={name}", "scale=single_gpu")
    assert config.model.path == "Qwen/Qwen2.5-0.5B-Instruct"
    assert config.model.lora is not None and config.model.lora.r == 16
    assert (config.environment, config.trajectories, config.mixing) == (
        tiny.environment,
        tiny.trajectories,
        tiny.mixing,
    )
    assert (config.training.max_steps, config.training.epochs) == (tiny.training.max_steps, tiny.training.epochs)
    assert axes == tiny_axes


@pytest.mark.slow
def test_experiments_share_the_cells_that_they_have_in_common():
    """Equal values make equal hashes: a cell of one that the other has need not run again."""
    there = [
        "experiment=ratio_sweep",
        "seed=0",
        "mixing.positives=50,200",
        "mixing.ratio='1:0','1:4'",
        "method=nut,nat",
    ]
    measured = {cell.hash for cell in composition.plan(there).cells}
    assert len(measured) == 8
    scarce = composition.plan(["experiment=scarcity", "seed=0", "mixing.positives=50,200"])
    assert {cell.hash for cell in scarce.cells} == measured
    texts = composition.plan(["experiment=strategies", "seed=0", "strategy=none,suffix"])
    assert {cell.hash for cell in texts.cells} < measured
    styles = composition.plan(["experiment=agent_style", "seed=0", "agent=react", "strategy=none"])
    assert {cell.hash for cell in styles.cells} < measured
    own = composition.plan(["experiment=quality_of_negatives", "seed=0", "trajectories.failures_rate=null"])
    assert {cell.hash for cell in own.cells} < measured
    longer = composition.plan(["experiment=equal_epochs", "seed=0", "training.max_steps=300"])
    controls = composition.plan(["experiment=controls", "seed=0"])
    assert {cell.hash for cell in longer.cells} < {cell.hash for cell in controls.cells}


def test_the_papers_benchmarks_are_asked_beside_the_one_trained_on():
    config, _ = checked("experiment=methods_by_benchmark", "scale=paper")
    assert {name: (other.name, other.questions) for name, other in config.also_in.items()} == {
        "asdiv": ("asdiv", "data/dataset/ASDiv/test_one_answer.jsonl"),
        "svamp": ("svamp", "data/dataset/SVAMP/test.jsonl"),
        "multiarith": ("multiarith", "data/dataset/MultiArith/test.jsonl"),
    }


def random_model(directory) -> None:
    tokenizer = sentencepiece_tokenizer("llama2")
    prompt = [Message("user", "{question}")]
    save_model(tiny_llama(tokenizer, positions=4096), chat_format(tokenizer), directory, prompt)


QUICK = ("model.path=llama", "training.max_steps=1", "training.device=cpu", "tracking=none", "evaluation.n_questions=2")


def conversation(question: dict, answer: str) -> dict:
    said = f"Thought: I know it.\nAction: finish[{answer}]"
    return {
        "conversations": [{"role": "assistant", "content": said, "loss": True}],
        "info": {"reward": answer == question["answer"], "gt": question["answer"], "pred": answer},
        "id": question["id"],
        "source": "0.2",
    }


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.suffix == ".jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if lines else json.dumps(rows))


def write_the_authors_files(folder: Path) -> None:
    """Files of the names and formats that scale=paper reads: eight training questions and two to ask for each task."""
    for task, (asked, joined) in QUESTIONS.items():
        answers = ["yes"] * 10 if task == "strategyqa" else [str(n * n) for n in range(2, 12)]
        questions = [{"id": f"q{n}", "question": f"What is {n} x {n}?", "answer": a} for n, a in enumerate(answers, 2)]
        write_rows(folder / joined, questions[:8])
        write_rows(folder / asked, questions[8:])
        wrong = "no" if task == "strategyqa" else "1"
        trajectories = f"data/dataset/{task}/{task}_gpt-3.5_"
        write_rows(folder / f"{trajectories}positive.json", [conversation(q, q["answer"]) for q in questions[:8]])
        write_rows(folder / f"{trajectories}negative.json", [conversation(q, wrong) for q in questions[:8]])
    for path in ("ASDiv/test_one_answer.jsonl", "SVAMP/test.jsonl", "MultiArith/test.jsonl"):
        write_rows(folder / "data/dataset" / path, [{"question": f"{path}: how many?", "answer": "3"}])
    episodes = [
        {
            "id": f"own-{n}-{success}",
            "question": f"What is {n} x {n}?",
            "messages": [{"role": "assistant", "content": f"Thought: I know it.\nAction: finish[{n + success}]"}],
            "outcome": {"success": success},
        }
        for n in range(2, 10)
        for success in (True, False)
    ]
    write_rows(folder / "outputs/collected/own.jsonl", episodes)
    write_rows(folder / "outputs/collected/weaker_failures.jsonl", [e for e in episodes if not e["outcome"]["success"]])
    write_rows(folder / "corpus.jsonl", [{"title": "Squares", "text": "Four is a square."}])


# A cell of each experiment: its counts made small, and what its sweep varies taken at a value with failures.
DRY_RUNS = {
    "demo": ("method=nat", "mixing.ratio='1:1'"),
    "ratio_sweep": ("method=nat", "mixing.negatives=8"),
    "strategies": ("strategy=prefix_letters", "mixing.ratio='1:1'"),
    "scarcity": ("method=nut", "mixing.ratio='1:1'"),
    "agent_style": ("agent=cot", "strategy=prefix_correct", "mixing.ratio='1:1'"),
    "controls": ("method=nat_shuffled", "mixing.ratio='1:1'"),
    "equal_epochs": ("method=nat", "mixing.ratio='1:1'"),
    "self_improvement": ("method=nat", "mixing.ratio='1:1'"),
    "hotpotqa": ("strategy=graded_4", "mixing.ratio='1:1'", "search=bm25", "search.path=corpus.jsonl"),
    "strategyqa": ("method=nat", "mixing.ratio='1:1'", "search=bm25", "search.path=corpus.jsonl"),
    "methods_by_benchmark": ("method=nat", "mixing.ratio='1:1'"),
    "quality_of_negatives": (
        *("method=nat", "mixing.ratio='1:1'"),
        f"trajectories.path=[{GSM8K}gsm8k_gpt-3.5_positive.json,outputs/collected/weaker_failures.jsonl]",
    ),
}


@pytest.fixture(scope="module")
def authors_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("authors")
    random_model(folder / "llama")
    write_the_authors_files(folder)
    return folder


def test_every_experiment_of_the_papers_scale_is_tried():
    assert set(DRY_RUNS) == set(PAPER) - {"none"}


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Without the pictures of the report that each of these sweeps of one cell ends with."""
    monkeypatch.setattr(writing.pictures, "draw", lambda *_: {})


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", DRY_RUNS)
def test_a_cell_at_the_papers_scale_takes_a_step_with_a_random_model(name, authors_folder, monkeypatch):
    monkeypatch.chdir(authors_folder)
    small = ("mixing.positives=4", "seed=0", f"sweep.name={name}", "evaluation.decoding.max_new_tokens=4")
    one_process = ("training.processes=1", "training.sharding=none")
    assert cli.run(["train", f"experiment={name}", "scale=paper", *small, *QUICK, *one_process, *DRY_RUNS[name]]) == 0
    (path,) = (authors_folder / "outputs" / "sweeps" / name).rglob("results.json")
    found = json.loads(path.read_text())
    assert (found["status"], found["steps"], found["positives"], found["n_questions"]) == ("completed", 1, 4, 2)
    assert found["negatives"] == (8 if name == "ratio_sweep" else 4)
    elsewhere = {"asdiv": 1, "svamp": 1, "multiarith": 1} if name == "methods_by_benchmark" else {}
    there = [one for one in found["passes"] if one["kind"] == "also_in"]
    assert {one["environment"]: one["n_questions"] for one in there} == elsewhere


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_adapters_of_one_gpus_scale_take_a_step_with_a_random_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_model(tmp_path / "llama")
    one_cell = ("mixing.positives=4", "mixing.ratio='1:1'", "method=nat", "seed=0", "sweep.name=s")
    few = ("evaluation.decoding.max_new_tokens=4", "evaluation.n_validation=0")
    assert cli.run(["train", "experiment=ratio_sweep", "scale=single_gpu", *one_cell, *QUICK, *few]) == 0
    (found,) = (json.loads(path.read_text()) for path in (tmp_path / "outputs").rglob("results.json"))
    assert (found["status"], found["steps"], found["positives"], found["negatives"]) == ("completed", 1, 4, 4)
