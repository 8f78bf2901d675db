"""One cell's training in several processes: each reads its own examples and holds the whole model (DDP), or with
training.sharding=fsdp2 a shard of it.

The cell (`train_in_processes`) starts the workers with torchrun, as `python -m nat.training.distributed RUN_DIR`, and
waits; only the cell knows Hydra and W&B. They meet in a directory of the run that lasts as long as the training:

    RUN_DIR/.training/  job.json, examples.npz              what to train, written by the cell
                        events.jsonl, result.json, model/   what became of it, written by the first worker
                        error-RANK.json                     why a worker failed
                        cell.lock                           locked while the cell lives; the workers end with it
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from nat.core.files import write_json
from nat.core.paths import PACKAGE
from nat.core.progress import Advance, progress
from nat.examples.encoding import decode_examples, encode_examples
from nat.examples.tokenization import chat_format
from nat.model import ModelConfig, load_model, load_tokenizer, merged, use_threads
from nat.tracking import METRICS_FILE, Tracker
from nat.training.checkpoints import CHECKPOINTS, MEETING_PLACE, last_checkpoint
from nat.training.config import Training, TrainingConfig, check_sharding
from nat.training.objectives import TrainingResult, objective_of
from nat.types import Example, RequestError, StageError

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.2  # at the workers' events
SECONDS_TO_END = 10.0  # for torchrun, once its workers are gone
LOGGED_CHARACTERS = 20_000  # of the workers' output, where one failed


def train_in_processes(
    examples: Sequence[Example],
    model_config: ModelConfig,
    config: Training,
    *,
    seed: int,
    device: Literal["cpu", "cuda"],
    run_dir: Path,
    tracker: Tracker,
    resume: bool,
) -> tuple[TrainingResult, Any]:
    """As the objective's `train`, in `config.processes` processes; also returns the trained model, adapters merged.

    Each step takes per_device_train_batch_size x gradient_accumulation_steps examples from every process.

    Raises:
        RequestError: fewer GPUs than processes, or what `train` refuses. StageError: a worker failed.
    """
    start = time.monotonic()
    check_sharding(config, model_config.lora)
    check_gpus(config.processes, device)
    run_dir = run_dir.absolute()
    place = run_dir / MEETING_PLACE
    shutil.rmtree(place, ignore_errors=True)  # a killed cell's
    place.mkdir(parents=True)
    # Removed here, before any worker looks for them: what one removes, another might be about to read.
    if last_checkpoint(run_dir / CHECKPOINTS) is None or not resume:
        shutil.rmtree(run_dir / CHECKPOINTS, ignore_errors=True)
    job = {"model": asdict(model_config), "training": asdict(config), "seed": seed, "device": device, "resume": resume}
    write_json(place / "job.json", job)
    (place / "examples.npz").write_bytes(encode_examples((examples, ())))
    try:
        with _locked(place / "cell.lock") as release, open(place / "output.log", "wb") as output:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += [f"--nproc_per_node={config.processes}", "-m", "nat.training.distributed", str(run_dir)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(device),
                start_new_session=True,  # an interrupt at the terminal reaches the cell alone
            )
            try:
                _follow(process, place / "events.jsonl", tracker)
            finally:
                if process.poll() is None:
                    release()
                    _end(process)
        if process.returncode != 0:
            raise _failure(place, process.returncode, config.processes)
        result = json.loads((place / "result.json").read_text(encoding="utf-8"))
        trained = replace(model_config, path=str(place / "model"), revision=None, lora=None)
        model = load_model(trained, device, seed)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return TrainingResult(**{**result, "seconds": time.monotonic() - start}), model


def check_gpus(processes: int, device: Literal["cpu", "cuda"]) -> None:
    import torch

    if device == "cuda" and torch.cuda.device_count() < processes:
        raise RequestError(
            f"training.processes={processes}: each needs a GPU of its own, and {torch.cuda.device_count()} can be seen "
            "here; lower it, or take training.device=cpu"
        )


def _environment(device: Literal["cpu", "cuda"]) -> dict[str, str]:
    """The workers' environment: they find nat, whatever directory the cell was started in."""
    path = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    # FSDP takes the GPUs wherever torch sees any
    return environment | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


@contextmanager
def _locked(path: Path) -> Iterator[Callable[[], None]]:
    """Hold the file's lock; yields what gives it back early. Whatever kills this process, the kernel gives it back."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)


def _follow(process: subprocess.Popen[bytes], events: Path, tracker: Tracker) -> None:
    """Show the workers' progress and pass their metrics on, until they have ended."""
    # `metrics.jsonl` is written by the first worker: what passes through here is for W&B
    forward = replace(tracker, metrics_path=events.with_name("forwarded.jsonl"))
    at = 0
    advance: Advance | None = None
    with ExitStack() as stack:
        while True:
            has_ended = process.poll() is not None
            lines, at = _complete_lines(events, at)
            for event in map(json.loads, lines):
                if "metrics" in event:
                    forward.log(event["metrics"], event["step"])
                elif advance is None:
                    bar = progress(event["total"], "training", "steps", done=event["done"])
                    advance = stack.enter_context(bar)
                else:
                    advance(event["done"], event["status"])
            if has_ended:
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _complete_lines(path: Path, at: int) -> tuple[list[bytes], int]:
    """The lines that were finished since byte `at`, and where the next one begins."""
    try:
        with open(path, "rb") as file:
            file.seek(at)
            text = file.read()
    except FileNotFoundError:
        return [], at
    length = text.rfind(b"\n") + 1
    return text[:length].splitlines(), at + length


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(place: Path, code: int, processes: int) -> Exception:
    """Why the workers failed: the first error of any, since others fail once they cannot reach that one."""
    errors = []
    for path in place.glob("error-*.json"):
        with suppress(ValueError, OSError):
            errors.append(json.loads(path.read_text(encoding="utf-8")))
    if not errors:
        output = (place / "output.log").read_text(encoding="utf-8", errors="replace")
        logger.error("the processes of the training wrote:\n%s", output[-LOGGED_CHARACTERS:])
        return StageError(
            f"training: one of {processes} processes was killed or could not start (torchrun ended with code {code}); "
            "the log holds what they wrote. Memory may be short: fewer processes or smaller batches need less"
        )
    first = min(errors, key=lambda error: error["time"])
    logger.error("process %d of the training:\n%s", first["rank"], first["traceback"])
    if first["kind"] == "RequestError":
        return RequestError(first["message"])
    if first["kind"] == "StageError":
        return StageError(first["message"])
    line = (first["message"].splitlines() or [""])[0]
    return StageError(
        f"training: process {first['rank']} of {processes}: {first['kind']}: {line} (traceback in the log)"
    )


# ---- in a worker ----


def main(run_dir: Path) -> int:
    """Train as `job.json` says; torchrun has told by environment variables which of the processes this one is."""
    place, rank = run_dir / MEETING_PLACE, int(os.environ["RANK"])
    threading.Thread(target=_end_with_the_cell, args=(place / "cell.lock",), daemon=True).start()
    try:
        _work(run_dir, place, rank)
    except BaseException as error:  # all are told of: this process ends here
        told = {"rank": rank, "time": time.time(), "kind": type(error).__name__, "message": str(error)}
        with suppress(OSError):
            write_json(place / f"error-{rank}.json", {**told, "traceback": traceback.format_exc()})
        traceback.print_exc()
        return 1
    return 0


def _work(run_dir: Path, place: Path, rank: int) -> None:
    import torch

    job = json.loads((place / "job.json").read_text(encoding="utf-8"))
    # Through JSON, as in nat.config.loading: strict types take arrays for tuples then.
    model_config = TypeAdapter(ModelConfig).validate_json(json.dumps(job["model"]), strict=True)
    config: Any = TypeAdapter(TrainingConfig).validate_json(json.dumps(job["training"]), strict=True)
    objective = objective_of(config)
    seed, device = job["seed"], job["device"]
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    use_threads(model_config.threads)
    size = objective.meet(config, seed=seed, device=device, run_dir=run_dir)
    if size != config.processes:  # some launchers start one process and say nothing
        raise StageError(f"training.processes={config.processes}: {size} came together")
    examples, _ = decode_examples((place / "examples.npz").read_bytes())
    events = _Events(place / "events.jsonl", Tracker(run_dir / METRICS_FILE))  # used by the first process alone
    tracker: Any = events
    is_sharded = config.sharding != "none"
    model = _load_to_shard(model_config, seed, rank) if is_sharded else load_model(model_config, device, seed)
    result = objective.train(
        model,
        chat_format(load_tokenizer(model_config)),
        examples,
        config,
        seed=seed,
        device=device,
        run_dir=run_dir,
        tracker=tracker,
        resume=job["resume"],
        show=events.progress if rank == 0 else _silent,
    )
    if is_sharded:
        _check_sharded(model)
        weights = _whole_weights(model)
    else:
        _check_same_weights(model)
        model, weights = merged(model), None  # its own
    if rank == 0:
        model.save_pretrained(place / "model", state_dict=weights)
        write_json(place / "result.json", asdict(result))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _end_with_the_cell(lock: Path) -> None:
    """End this process, in whatever call it is, when the cell that started it is gone."""
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # waits as long as the cell holds it
    os._exit(1)


class _Events:
    """The tracker of a worker: writes `metrics.jsonl`, and what the cell is to show and to pass on to W&B."""

    def __init__(self, path: Path, tracker: Tracker) -> None:
        self.path, self.tracker = path, tracker

    def log(self, metrics: dict[str, Any], step: int) -> None:
        self.tracker.log(metrics, step)
        self._append({"metrics": metrics, "step": step})

    def rewind(self, step: int) -> None:
        self.tracker.rewind(step)

    @contextmanager
    def progress(self, total: int, what: str, unit: str, done: int = 0) -> Iterator[Advance]:
        self._append({"done": done, "total": total})
        yield lambda done, status: self._append({"done": done, "status": status})

    def _append(self, event: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


@contextmanager
def _silent(total: int, what: str, unit: str, done: int = 0) -> Iterator[Advance]:
    yield lambda done, status: None


def _check_same_weights(model: Any) -> None:
    """Raise StageError where the processes ended with different weights: they would not have trained together."""
    import torch

    sums = [parameter.detach().double().sum() for parameter in model.parameters()]
    mine = torch.stack(sums)  # P: one sum for each parameter tensor
    all_sums = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(all_sums, mine)
    if not all(torch.equal(mine, others) for others in all_sums):
        raise StageError("training: the processes ended with different weights")


def _load_to_shard(config: ModelConfig, seed: int, rank: int) -> Any:
    """The model in main memory: whole in the first process; in the others its form, with weights that are never read.

    accelerate then gives each process, on its GPU, its shard of the first one's weights. (transformers'
    own cpu_ram_efficient_loading leaves the others, by its version, zeros or no memory at all; accelerate tells
    parameters apart by their addresses, so that each needs one.)
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    model = load_model(config, "cpu", seed) if rank == 0 else None
    form = [None if model is None else (model.config, model.dtype)]
    torch.distributed.broadcast_object_list(form)
    if model is not None:
        return model
    assert form[0] is not None
    settings, dtype = form[0]
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation=config.attention)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            empty = torch.empty_like(parameter, device="cpu")  # takes memory only once something is written there
            module.register_parameter(name, torch.nn.Parameter(empty, parameter.requires_grad))
    model.tie_weights()
    return model.eval()


def _check_sharded(model: Any) -> None:
    """Raise StageError where the processes together do not hold the model once: it would not have been sharded."""
    import torch
    from torch.distributed.tensor import DTensor

    parameters = list(model.parameters())
    held = sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in parameters)
    together = torch.tensor(held, device=parameters[0].device)
    torch.distributed.all_reduce(together)
    total = sum(parameter.numel() for parameter in parameters)
    if int(together) != total:
        raise StageError(
            f"training.sharding=fsdp2: the processes hold {int(together)} weights together, the model has {total}: it "
            "was not sharded"
        )


def _whole_weights(model: Any) -> dict[str, Any]:
    """All weights in main memory in the first process; nothing in the others, which take part in gathering them."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
