"""Training in two processes on the CPU, under torchrun as on GPUs (gloo in the place of nccl)."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nat.examples.tokenization import MASKED, chat_format
from nat.model import LoraConfig, ModelConfig, load_model, load_tokenizer, merged
from nat.tracking import Tracker
from nat.training import distributed
from nat.training.config import SftTraining
from nat.training.distributed import MEETING_PLACE, check_gpus, train_in_processes
from nat.training.sft import train
from nat.types import Example, RequestError, StageError

TINY = ModelConfig(
    name="tiny",
    path="tiny",
    revision=None,
    chat_template=None,
    max_length=256,
    dtype="float32",
    attention="sdpa",
    threads=1,
    lora=None,
)
TWO = SftTraining(
    objective="sft",
    max_steps=6,
    epochs=None,
    device="cpu",
    processes=2,
    sharding="none",
    checkpoint_every=2,
    save=False,
    sft={
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 0.001,
        "train_sampling_strategy": "group_by_length",
        "logging_steps": 1,
    },
)
# The same examples at each step: a process takes every second batch of two, one that accumulates takes both.
ONE = dataclasses.replace(TWO, processes=1, sft={**TWO.sft, "gradient_accumulation_steps": 2})


def examples(n=16) -> list[Example]:
    made = []
    for i in range(n):
        ids = [100 + (i * 7 + k) % 26 for k in range(6 + i % 5)]
        made.append(Example(ids, [MASKED] * 3 + ids[3:], "incorrect" if i % 3 == 2 else "correct", f"t{i}"))
    return made


class Run:
    """Stands in for a W&B run."""

    def __init__(self) -> None:
        self.logged: list[dict] = []

    def define_metric(self, *_, **__) -> None:
        pass

    def log(self, metrics, **_) -> None:
        self.logged.append(metrics)


def in_two(run_dir: Path, model=TINY, config=TWO, resume=False, run=None):
    return train_in_processes(
        examples(),
        model,
        config,
        seed=0,
        device="cpu",
        run_dir=run_dir,
        tracker=Tracker(run_dir / "metrics.jsonl", run),
        resume=resume,
    )


def in_one(run_dir: Path, model_config=TINY, config=ONE):
    torch.set_num_threads(1)
    model = load_model(model_config, "cpu", 0)
    tracker = Tracker(run_dir / "metrics.jsonl")
    format = chat_format(load_tokenizer(model_config))
    result = train(model, format, examples(), config, seed=0, device="cpu", run_dir=run_dir, tracker=tracker)
    return result, merged(model)


def lines(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def compare(run_dir: Path, other_dir: Path, rel: float = 1e-6) -> None:
    ours, theirs = lines(run_dir), lines(other_dir)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("loss", "loss/correct", "loss/incorrect", "token_accuracy", "grad_norm", "learning_rate"):
            assert (name in mine) == (name in other), (name, mine["step"])  # a batch need not hold both classes
            if name in other:
                assert mine[name] == pytest.approx(other[name], rel=rel, abs=1e-5), (name, mine["step"])
        assert (mine["tokens"], mine["trained_tokens"]) == (other["tokens"], other["trained_tokens"])


class Forked:
    """Stands in for torchrun's Popen: the same workers with the same environment, forked from one process that has
    read the libraries. Reading them is most of what a start costs; tests of starting itself have torchrun.
    """

    def __init__(self, command: list[str], *, env: dict[str, str], **_: object) -> None:
        assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.test_distributed", "nat.training.sft_trainer", "peft"])
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1]), "WORLD_SIZE": "2"}
        self.returncode: int | None = None
        self.workers = []
        for rank in ("0", "1"):
            its_own = {**env, **meeting, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}
            self.workers.append(context.Process(target=forked, args=(command[-1], its_own)))
            self.workers[-1].start()

    def poll(self) -> int | None:
        if any(worker.exitcode for worker in self.workers):
            for worker in self.workers:  # as torchrun ends the others where one failed
                worker.kill()
                worker.join()
        codes = [worker.exitcode for worker in self.workers]
        if None not in codes:
            self.returncode = int(any(codes))
        return self.returncode


def forked(run_dir: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for file in Path(environment["PYTHONPATH"].rpartition(os.pathsep)[2]).glob("sitecustomize.py"):
        exec(file.read_text(), {})
    with open(Path(run_dir) / MEETING_PLACE / "output.log", "ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os._exit(distributed.main(Path(run_dir)))


@pytest.fixture
def forking(monkeypatch) -> None:
    monkeypatch.setattr(distributed, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": Forked}))


FAILS = """
import os
if os.environ.get("RANK") == "1":
    import itertools
    from transformers import Trainer
    step, counter = Trainer.training_step, itertools.count(1)
    def training_step(self, *arguments, **keywords):
        if next(counter) == 6:
            raise ValueError("boom\\nsecond line")
        return step(self, *arguments, **keywords)
    Trainer.training_step = training_step
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch_also_when_one_fails_and_all_resume(
    tmp_path, monkeypatch, caplog, capfd
):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    expected, reference = in_one(one)

    patched = tmp_path / "patched"
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(FAILS)
    monkeypatch.setenv("PYTHONPATH", str(patched))
    run = Run()
    with caplog.at_level(logging.ERROR), pytest.raises(StageError) as failed:
        in_two(two, run=run)
    assert str(failed.value) == "training: process 1 of 2: ValueError: boom (traceback in the log)"
    assert "in training_step" in caplog.text and "second line" in caplog.text
    assert not (two / MEETING_PLACE).exists()
    assert [line["step"] for line in lines(two)] == [1, 2, 3, 4, 5]
    logged = [values["loss"] for values in run.logged]
    assert logged == [line["loss"] for line in lines(two)]

    monkeypatch.delenv("PYTHONPATH")
    capfd.readouterr()
    result, model = in_two(two, resume=True, run=run)
    assert (result.steps, result.resumed_from) == (6, 4)
    assert [values["loss"] for values in run.logged[5:]] == [line["loss"] for line in lines(two)[4:]]
    compare(two, one)
    assert result.tokens == expected.tokens
    assert result.metrics["loss"] == pytest.approx(expected.metrics["loss"], abs=1e-5)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert not (two / MEETING_PLACE).exists()
    out, err = capfd.readouterr()
    assert out == ""
    assert all(line.startswith("training: ") for line in err.splitlines()) and "6/6 steps" in err


@pytest.mark.slow
@pytest.mark.usefixtures("forking")
def test_adapters_are_trained_in_two_processes_and_come_back_merged(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    adapted = dataclasses.replace(TINY, lora=LoraConfig(r=4, alpha=8, dropout=0.0, target_modules="all-linear"))
    sft = {**TWO.sft, "gradient_checkpointing": True, "train_sampling_strategy": "random"}
    config = dataclasses.replace(TWO, max_steps=2, checkpoint_every=None, sft=sft)
    _, model = in_two(two, adapted, config)
    alone = dataclasses.replace(config, processes=1, sft={**sft, "gradient_accumulation_steps": 2})
    _, reference = in_one(one, adapted, alone)
    compare(two, one)
    assert type(model).__name__ == "LlamaForCausalLM"
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


SHARDED = dataclasses.replace(
    TWO, sharding="fsdp2", sft={**TWO.sft, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}
)


@pytest.fixture(scope="module")
def untied(tmp_path_factory) -> ModelConfig:
    """The shipped model with a head of its own, as Llama 2 has."""
    directory = tmp_path_factory.mktemp("untied")
    model = load_model(TINY, "cpu")
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.save_pretrained(directory)
    load_tokenizer(TINY).save_pretrained(directory)
    return dataclasses.replace(TINY, path=str(directory))


@pytest.mark.slow
@pytest.mark.usefixtures("forking")
def test_a_sharded_model_is_trained_as_the_whole_one_also_when_a_process_fails_and_all_resume(
    tmp_path, monkeypatch, untied
):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    whole = dataclasses.replace(
        SHARDED, processes=1, sharding="none", sft={**TWO.sft, "gradient_accumulation_steps": 4}
    )
    _, reference = in_one(one, untied, whole)

    patched = tmp_path / "patched"
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(FAILS)  # at step 3
    monkeypatch.setenv("PYTHONPATH", str(patched))
    with pytest.raises(StageError, match="ValueError: boom"):
        in_two(two, untied, SHARDED)
    monkeypatch.delenv("PYTHONPATH")
    (checkpoint,) = (two / "checkpoints").iterdir()
    assert checkpoint.name == "checkpoint-2"
    for written in ("pytorch_model_fsdp_0", "optimizer_0"):  # by each process: about half of it
        sizes = [path.stat().st_size for path in (checkpoint / written).glob("*.distcp")]
        assert len(sizes) == 2 and min(sizes) > 0.45 * sum(sizes), (written, sizes)

    result, model = in_two(two, untied, SHARDED, resume=True)
    assert (result.steps, result.resumed_from) == (6, 2)
    compare(two, one, rel=1e-4)  # sums in another order
    same_weights(model, reference)

    again, model = in_two(two, untied, SHARDED, resume=True)  # it was cut off after its last step
    assert (again.steps, again.resumed_from) == (6, 6)
    same_weights(model, reference)


@pytest.mark.slow
def test_a_model_with_tied_weights_is_sharded(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    _, reference = in_one(one, config=dataclasses.replace(ONE, max_steps=2, checkpoint_every=None))
    sharded = dataclasses.replace(TWO, max_steps=2, checkpoint_every=None, sharding="fsdp2")
    _, model = in_two(two, config=sharded)
    compare(two, one, rel=1e-4)  # sums in another order
    same_weights(model, reference)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def same_weights(model, reference) -> None:
    assert type(model).__name__ == "LlamaForCausalLM"
    pairs = zip(model.named_parameters(), reference.named_parameters(), strict=True)
    for (name, ours), (other_name, theirs) in pairs:
        assert name == other_name
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)  # six steps of up to 1e-3 each


def test_only_the_first_process_reads_the_weights(monkeypatch):
    first = load_model(TINY, "cpu", 0)
    monkeypatch.setattr(
        torch.distributed, "broadcast_object_list", lambda form: form.__setitem__(0, (first.config, first.dtype))
    )
    other = distributed._load_to_shard(dataclasses.replace(TINY, path="nowhere"), 0, rank=1)
    shapes = {name: (weight.shape, weight.dtype) for name, weight in first.named_parameters()}
    assert {name: (weight.shape, weight.dtype) for name, weight in other.named_parameters()} == shapes
    assert len({weight.data_ptr() for weight in other.parameters()}) == len(shapes)  # each has memory of its own
    assert other.lm_head.weight is other.model.embed_tokens.weight
    buffers = dict(other.named_buffers())  # no weights: each process computes them
    for name, buffer in first.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, atol=0, rtol=0)


def test_a_model_that_was_not_sharded_is_noticed(monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.mul_(2))  # a whole one in both of two
    with pytest.raises(StageError, match=r"hold 24 weights together, the model has 12: it was not sharded"):
        distributed._check_sharded(torch.nn.Linear(3, 3))


def test_adapters_are_refused_before_a_process_starts(tmp_path):
    adapted = dataclasses.replace(TINY, lora=LoraConfig(r=4, alpha=8, dropout=0.0, target_modules="all-linear"))
    with pytest.raises(RequestError, match=r"training\.sharding=fsdp2: adapters"):
        in_two(tmp_path, adapted, SHARDED)
    assert list(tmp_path.iterdir()) == []


def workers(run_dir: Path) -> list[int]:
    """The processes whose command line names this run directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"nat.training.distributed" in command and str(run_dir).encode() in command:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_cell(tmp_path, ending):
    code = (
        "import dataclasses, sys; from pathlib import Path; from tests.test_distributed import TWO, in_two\n"
        "in_two(Path(sys.argv[1]), config=dataclasses.replace(TWO, max_steps=100_000, checkpoint_every=None))"
    )
    cell = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        # Tests that a shell runs in the background inherit ignored interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        wait_until(lambda: (tmp_path / "metrics.jsonl").exists() or cell.poll() is not None)
        assert cell.poll() is None
        started = workers(tmp_path)
        assert len(started) == 3  # torchrun and its two
        cell.send_signal(ending)
        cell.wait(240)
        wait_until(lambda: not workers(tmp_path))
    finally:
        cell.kill()
        for pid in workers(tmp_path):
            os.kill(pid, signal.SIGKILL)
    assert (tmp_path / MEETING_PLACE).exists() == (ending == signal.SIGKILL)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RequestError, match=r"training\.processes=2: each needs a GPU of its own, and 1 can be seen"):
        check_gpus(2, "cuda")
    check_gpus(2, "cpu")


def error(place: Path, rank: int, seconds: float, kind: str, message: str) -> None:
    told = {"rank": rank, "time": seconds, "kind": kind, "message": message, "traceback": f"Traceback of {rank}"}
    (place / f"error-{rank}.json").write_text(json.dumps(told))


def test_the_first_error_of_any_process_is_the_reason(tmp_path, caplog):
    error(tmp_path, 0, 20.0, "RuntimeError", "Connection closed by peer")
    error(tmp_path, 1, 10.0, "RequestError", "training.sft: no such optimiser")
    found = distributed._failure(tmp_path, 1, 2)
    assert isinstance(found, RequestError) and str(found) == "training.sft: no such optimiser"
    assert "Traceback of 1" in caplog.text
    error(tmp_path, 1, 10.0, "StageError", "training: the loss is nan at step 2")
    assert isinstance(distributed._failure(tmp_path, 1, 2), StageError)


def test_a_process_that_says_nothing_was_killed(tmp_path, caplog):
    (tmp_path / "output.log").write_text("exitcode: -9")
    found = distributed._failure(tmp_path, 1, 2)
    assert isinstance(found, StageError)
    assert "one of 2 processes was killed or could not start (torchrun ended with code 1)" in str(found)
    assert "exitcode: -9" in caplog.text


def test_only_finished_lines_are_read(tmp_path):
    path = tmp_path / "events.jsonl"
    assert distributed._complete_lines(path, 0) == ([], 0)
    path.write_text('{"a": 1}\n{"b"')
    assert distributed._complete_lines(path, 0) == ([b'{"a": 1}'], 9)
    path.write_text('{"a": 1}\n{"b": 2}\n')
    assert distributed._complete_lines(path, 9) == ([b'{"b": 2}'], 18)
