"""The paper's experiments at the three scales: what they compose to, and one optimiser step of a random model."""

import json

import pytest

from nat import cli, composition
from nat.model import save_model
from nat.tokenization import chat_format
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
    "equal_epochs": ("gsm8k", 2000, "1:1.5", 2.0, 1319, 4),
    "self_improvement": ("gsm8k", 2000, "1:2", 2.0, 1319, 3),
    "hotpotqa": ("hotpotqa", 500, "1:2", 2.0, 500, 9),
    "strategyqa": ("strategyqa", 500, "1:2", 2.0, 500, 3),
}


def checked(*overrides: str):
    """The configuration of a command, and the axes of its sweep as overrides."""
    composed = composition.compose(overrides)
    axes = [f"{key}={values}" for key, values in (composed.hydra.sweeper.params or {}).items()]
    return composition.checked(composed, overrides), axes


def cells(axes: list[str]) -> list[list[str]]:
    return composition._batches(axes)


@pytest.fixture
def search_key(monkeypatch):
    monkeypatch.setenv("SERPER_API_KEY", "of-a-test")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_scale_has_the_papers_values(name, search_key):
    environment, positives, negatives, budget, n_questions, n_cells = PAPER[name]
    config, axes = checked(f"experiment={name}", "scale=paper")
    mixing, training, sft = config.mixing, config.training, config.training.sft
    assert (config.environment.name, mixing.positives) == (environment, positives)
    assert (mixing.negatives if mixing.kind == "counts" else mixing.ratio) == negatives
    assert (training.epochs if training.max_steps is None else training.max_steps) == budget
    assert (config.model.path, config.model.max_length) == ("meta-llama/Llama-2-7b-chat-hf", 4096)
    assert (config.model.lora, config.model.dtype, training.objective) == (None, "float32", "sft")
    batch = training.processes * sft["per_device_train_batch_size"] * sft["gradient_accumulation_steps"]
    assert (batch, sft["learning_rate"], sft["lr_scheduler_type"], sft["warmup_steps"]) == (64, 5e-5, "cosine", 0.03)
    assert (config.evaluation.n_questions, config.evaluation.decoding.temperature) == (n_questions, 0.2)
    of_its_own = name == "self_improvement"
    asked, joined = QUESTIONS[environment]
    assert (config.environment.questions, config.trajectories.questions) == (asked, None if of_its_own else joined)
    folder = f"data/dataset/{environment}/{environment}_gpt-3.5_"
    files = "outputs/collected/own.jsonl" if of_its_own else [f"{folder}positive.json", f"{folder}negative.json"]
    assert (config.trajectories.kind, config.trajectories.path) == ("jsonl" if of_its_own else "nat", files)
    found = cells(axes) if name != "none" else [[]]
    assert len(found) == n_cells


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PAPER if name != "none"])
def test_the_first_and_the_last_cell_of_a_paper_sweep_are_possible(name, search_key):
    found = cells(checked(f"experiment={name}", "scale=paper")[1])
    for cell in (found[0], found[-1]):
        checked(f"experiment={name}", "scale=paper", *cell)


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


def random_model(directory) -> None:
    tokenizer = sentencepiece_tokenizer("llama2")
    prompt = [Message("user", "{question}")]
    save_model(tiny_llama(tokenizer, positions=4096), chat_format(tokenizer), directory, prompt)


QUICK = ("model.path=llama", "training.max_steps=1", "training.device=cpu", "tracking=none", "evaluation.n_questions=2")


@pytest.mark.slow
def test_a_cell_of_the_papers_figure_takes_a_step_with_a_random_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_model(tmp_path / "llama")
    folder = tmp_path / GSM8K
    folder.mkdir(parents=True)
    questions = [{"id": f"q{n}", "question": f"What is {n} times {n}?", "answer": str(n * n)} for n in range(2, 12)]
    (folder / "train.json").write_text(json.dumps(questions[:8]))
    (folder / "test.json").write_text(json.dumps(questions[8:]))
    for outcome, is_right in (("positive", True), ("negative", False)):
        said = [(question, question["answer"] if is_right else "1") for question in questions[:8]]
        records = [
            {
                "conversations": [
                    {"role": "assistant", "content": f"Thought: A square.\nAction: finish[{answer}]", "loss": True}
                ],
                "info": {"reward": is_right, "gt": question["answer"], "pred": answer},
                "id": question["id"],
                "source": "0.2",
            }
            for question, answer in said
        ]
        (folder / f"gsm8k_gpt-3.5_{outcome}.json").write_text(json.dumps(records))
    one_cell = ("mixing.positives=4", "mixing.negatives=8", "method=nat", "sweep.name=s")
    few_tokens = "evaluation.decoding.max_new_tokens=4"
    assert cli.run(["train", "experiment=ratio_sweep", "scale=paper", *one_cell, *QUICK, few_tokens]) == 0
    (found,) = (json.loads(path.read_text()) for path in (tmp_path / "outputs").rglob("results.json"))
    assert (found["status"], found["method"], found["steps"]) == ("completed", "nat", 1)
    assert (found["positives"], found["negatives"], found["n_questions"]) == (4, 8, 2)
    assert found["success_rate_as_incorrect"] == 0.0


@pytest.mark.slow
def test_adapters_of_one_gpus_scale_take_a_step_with_a_random_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random_model(tmp_path / "llama")
    one_cell = ("mixing.positives=4", "mixing.ratio='1:1'", "method=nat", "seed=0", "sweep.name=s")
    few = ("evaluation.decoding.max_new_tokens=4", "evaluation.n_validation=0")
    assert cli.run(["train", "experiment=ratio_sweep", "scale=single_gpu", *one_cell, *QUICK, *few]) == 0
    (found,) = (json.loads(path.read_text()) for path in (tmp_path / "outputs").rglob("results.json"))
    assert (found["status"], found["steps"], found["positives"], found["negatives"]) == ("completed", 1, 4, 4)
