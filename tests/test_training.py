from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shutil
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import nat.training
from nat.config.kinds import kinds
from nat.core.methods import METHODS, Method, of_objective
from nat.examples.tokenization import MASKED, chat_format
from nat.model import load_model
from nat.runs.clock import Clock
from nat.stages.training import train_model
from nat.tracking import Tracker
from nat.training.checkpoints import last_checkpoint, remove_checkpoints
from nat.training.config import NoTraining, SftTraining, TrainingConfig, check_sharding
from nat.training.objectives import objective_of
from nat.training.sft import sft_config, train
from nat.types import Example, RequestError, StageError
from tests.test_distributed import TINY
from tests.tokenizers_for_tests import byte_tokenizer, tiny_llama

FORMAT = chat_format(byte_tokenizer("chatml"))
SFT = {
    "per_device_train_batch_size": 4,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "train_sampling_strategy": "group_by_length",
    "gradient_checkpointing": False,
    "logging_steps": 2,
}


def config(max_steps=6, epochs=None, checkpoint_every=None, **sft) -> SftTraining:
    return SftTraining(
        objective="sft",
        max_steps=max_steps,
        epochs=epochs,
        device="cpu",
        processes=1,
        sharding="none",
        checkpoint_every=checkpoint_every,
        save=False,
        sft={**SFT, **sft},
    )


def examples(n=12) -> list[Example]:
    """Three tokens of prompt, then i % 4 + 2 trained ones; every third example is of the other class."""
    made = []
    for i in range(n):
        ids = [65 + (i * 7 + k) % 26 for k in range(5 + i % 4)]
        made.append(Example(ids, [MASKED] * 3 + ids[3:], "incorrect" if i % 3 == 2 else "correct", f"t{i}"))
    return made


def run(tmp_path, training_config, *, model=None, data=None, seed=0, resume=False, format=FORMAT):
    """(result, logged lines, model)"""
    model = tiny_llama(format.tokenizer) if model is None else model
    tracker = Tracker(tmp_path / "metrics.jsonl")
    data = examples() if data is None else data
    result = train(
        model, format, data, training_config, seed=seed, device="cpu", run_dir=tmp_path, tracker=tracker, resume=resume
    )
    path = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return result, lines, model


def losses(lines):
    names = ("step", "loss", "loss/correct", "loss/incorrect", "learning_rate", "tokens", "trained_tokens")
    return [tuple(line.get(name) for name in names) for line in lines]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # as fast on so small a model, and sums come out in one order


def plain_loss(model, data):
    """(sum of the loss, right guesses, tokens) of trained tokens, by PyTorch alone."""
    loss, right, count = 0.0, 0, 0
    for example in data:
        with torch.no_grad():
            logits = model(torch.tensor([example.input_ids])).logits[0, :-1]
        labels = torch.tensor(example.labels[1:])
        loss += torch.nn.functional.cross_entropy(logits, labels, ignore_index=MASKED, reduction="sum").item()
        right += ((logits.argmax(-1) == labels) & (labels != MASKED)).sum().item()
        count += (labels != MASKED).sum().item()
    return loss, right, count


@pytest.mark.parametrize(("batch", "accumulation"), [(12, 1), (4, 3), (2, 2)])
def test_losses_per_class_equal_a_plain_forward_pass(tmp_path, batch, accumulation):
    steps = 12 // (batch * accumulation)
    setting = config(
        steps,
        learning_rate=0.0,
        logging_steps=steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
    )
    _, lines, model = run(tmp_path, setting)
    (line,) = lines
    data = examples()
    for suffix, chosen in {
        "": data,
        "/correct": [e for e in data if e.class_name == "correct"],
        "/incorrect": [e for e in data if e.class_name == "incorrect"],
    }.items():
        loss, right, count = plain_loss(model, chosen)
        assert line[f"loss{suffix}"] == pytest.approx(loss / count, abs=1e-5)
        assert line[f"token_accuracy{suffix}"] == pytest.approx(right / count)
    # 12 examples of 5, 6, 7, 8 tokens in turn, of which all but 3 are trained: 8 "correct" ones, 4 "incorrect"
    assert (line["tokens"], line["trained_tokens"]) == (78, 42)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_token_weighted_mean_of_class_losses_is_the_loss_that_trl_optimises(tmp_path, monkeypatch, accumulation):
    from trl.trainer.sft_trainer import SFTTrainer

    optimised = []
    training_step = SFTTrainer.training_step

    def spy(self, *arguments, **keywords):
        optimised.append(training_step(self, *arguments, **keywords))
        return optimised[-1]

    monkeypatch.setattr(SFTTrainer, "training_step", spy)
    _, lines, _ = run(tmp_path, config(3, logging_steps=1, gradient_accumulation_steps=accumulation))
    assert len(optimised) == 3 * accumulation and len(lines) == 3
    for number, line in enumerate(lines):
        of_trl = sum(loss.item() for loss in optimised[number * accumulation : (number + 1) * accumulation])
        assert line["loss"] == pytest.approx(of_trl, abs=1e-5)


def test_loss_falls_and_the_last_window_is_logged_however_short(tmp_path):
    result, lines, _ = run(tmp_path, config(5))
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    assert (result.steps, result.resumed_from) == (5, 0)
    assert result.metrics["loss"] == lines[-1]["loss"]
    assert result.trained_tokens == lines[-1]["trained_tokens"]


def test_epochs_are_passes_over_the_examples(tmp_path):
    result, _, _ = run(tmp_path, config(None, 2.0))
    assert result.steps == 6  # 12 examples in batches of 4, twice
    assert result.trained_tokens == 2 * 42


@pytest.mark.slow
def test_same_seed_same_losses_other_seed_others(tmp_path):
    runs = []
    for number, seed in enumerate((0, 0, 1)):
        (tmp_path / str(number)).mkdir()
        runs.append(losses(run(tmp_path / str(number), config(4), seed=seed)[1]))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["group_by_length", "random"])
def test_resumed_training_logs_what_an_unbroken_one_does(tmp_path, sampling):
    from transformers import Trainer

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    # 12 examples in batches of 4: step 4 is in the middle of the second epoch. Dropout needs the generator's state.
    setting = config(8, checkpoint_every=4, train_sampling_strategy=sampling)

    def model():
        made = tiny_llama(FORMAT.tokenizer)
        for layer in made.model.layers:
            layer.self_attn.attention_dropout = 0.1
        return made

    _, expected, reference = run(whole, setting, model=model())

    class Killed(BaseException):
        pass

    step = Trainer.training_step
    counter = itertools.count(1)

    def dies_at_step_7(self, *arguments, **keywords):
        if next(counter) == 7:
            raise Killed
        return step(self, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "training_step", dies_at_step_7)
        run(broken, setting, model=model())
    (broken / "checkpoints" / "checkpoint-6").mkdir()  # what a kill in the middle of saving leaves behind
    result, lines, resumed = run(broken, setting, model=model(), resume=True)
    assert result.resumed_from == 4
    assert losses(lines) == losses(expected)
    for ours, theirs in zip(resumed.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_resuming_a_finished_training_takes_its_weights_and_trains_no_step(tmp_path):
    first, lines, model = run(tmp_path, config(4, checkpoint_every=2))
    again, lines_again, loaded = run(
        tmp_path, config(4, checkpoint_every=2), model=tiny_llama(FORMAT.tokenizer, 1), resume=True
    )
    assert (again.steps, again.resumed_from) == (4, 4)
    assert again.metrics["loss"] == first.metrics["loss"]
    assert lines_again == lines
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


@pytest.mark.slow
def test_without_resume_earlier_checkpoints_and_lines_go(tmp_path):
    run(tmp_path, config(4, checkpoint_every=2))
    result, lines, _ = run(tmp_path, config(2))
    assert result.resumed_from == 0
    assert [line["step"] for line in lines] == [2]
    assert last_checkpoint(tmp_path / "checkpoints") is None


def test_last_checkpoint_is_the_last_complete_one(tmp_path):
    for step, content in ((20, '{"global_step": 20}'), (100, '{"global_step": 100}'), (120, '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(content)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert not (tmp_path / "checkpoint-120").exists()


def test_remove_checkpoints(tmp_path):
    run(tmp_path, config(2, checkpoint_every=2))
    assert last_checkpoint(tmp_path / "checkpoints") is not None
    remove_checkpoints(tmp_path)
    remove_checkpoints(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_training_none_leaves_the_model_as_it_is(tmp_path):
    before = load_model(TINY, "cpu", 0)
    tracker = Tracker(tmp_path / "metrics.jsonl")
    prepared: Any = None  # nothing of it is needed
    nothing = NoTraining(objective="none", device="cpu")
    result, model = train_model(TINY, nothing, prepared, Clock(), 0, tmp_path, tracker, resume=False)
    assert (result.steps, result.metrics, list(tmp_path.iterdir())) == (0, {}, [])
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), model.parameters(), strict=True))


def test_an_objective_is_the_module_of_its_name(tmp_path, monkeypatch):
    """In the stage, and in a worker of several processes: no other place knows an objective by its name."""
    (tmp_path / "echo.py").write_text(
        "from nat.training.objectives import TrainingResult\n"
        "def train(model, format, examples, config, *, seed, device, run_dir, tracker, resume=False, show=None):\n"
        "    return TrainingResult(config.max_steps, 0, 0.0, len(examples), seed, {'loss': 0.5})\n"
        "def meet(config, *, seed, device, run_dir):\n"
        "    return 5\n"
    )
    monkeypatch.setattr(nat.training, "__path__", [*nat.training.__path__, str(tmp_path)])
    echo: Any = config()
    object.__setattr__(echo, "objective", "echo")
    assert objective_of(config()).train is train
    assert objective_of(echo).meet(echo, seed=0, device="cpu", run_dir=tmp_path) == 5
    prepared: Any = SimpleNamespace(format=FORMAT, examples=examples(3))
    result, _ = train_model(TINY, echo, prepared, Clock(), 7, tmp_path, Tracker(tmp_path / "metrics.jsonl"), False)
    assert (result.steps, result.tokens, result.trained_tokens, result.metrics) == (6, 3, 7, {"loss": 0.5})


@pytest.mark.parametrize(
    ("objective", "is_marked", "is_graded", "name"),
    [
        ("none", False, False, "base"),
        ("none", True, True, "base"),
        ("sft", False, False, "nut"),
        ("sft", True, False, "nat"),
        ("sft", True, True, "nat_graded"),
    ],
)
def test_what_a_run_of_an_objective_is_called(objective, is_marked, is_graded, name):
    assert of_objective(objective, is_marked, is_graded).name == name


def test_an_objective_of_one_entry_is_called_so_whatever_its_prompts_tell(monkeypatch):
    entry = Method("unlearned", "unlearned", "unlearning", None, "unlearning")
    monkeypatch.setattr("nat.core.methods.METHODS", (*METHODS, entry))
    assert of_objective("unlearning", is_marked=False, is_graded=False) is entry
    assert of_objective("unlearning", is_marked=True, is_graded=True) is entry


def test_every_objective_has_an_entry_in_the_table_of_methods():
    for objective in kinds()["training"].keys:
        assert of_objective(objective, is_marked=False, is_graded=False).objective == objective
    with pytest.raises(ValueError, match=r"training\.objective=dpo: nat/core/methods\.py has no entry"):
        of_objective("dpo", is_marked=True, is_graded=False)


def test_model_works_as_before_once_trained(tmp_path):
    _, _, model = run(tmp_path, config(2, gradient_checkpointing=True))
    assert "forward" not in model.__dict__ and not model.training
    assert not any(getattr(layer, "gradient_checkpointing", False) for layer in model.model.layers)
    assert model(torch.tensor([[65, 66]]), use_cache=True).past_key_values is not None


def test_lora_trains_adapters_only_and_merges(tmp_path):
    from nat.model import LoraConfig, _with_adapters, merged

    base = tiny_llama(FORMAT.tokenizer)
    before = base.model.embed_tokens.weight.clone()
    adapters = LoraConfig(r=4, alpha=8, dropout=0.0, target_modules="all-linear")
    _, lines, model = run(tmp_path, config(4), model=_with_adapters(base, adapters))
    assert lines[-1]["loss/correct"] < lines[0]["loss/correct"]
    tokens = torch.tensor([[65, 66, 67]])
    with torch.no_grad():
        expected = model(tokens).logits
        plain = merged(model)
        torch.testing.assert_close(plain(tokens).logits, expected, atol=1e-4, rtol=1e-4)
    assert type(plain).__name__ == "LlamaForCausalLM"
    assert torch.equal(plain.model.embed_tokens.weight, before)


def test_loss_that_is_no_number_stops_the_run(tmp_path):
    model = tiny_llama(FORMAT.tokenizer)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(StageError, match="the loss is nan at step 2"):
        run(tmp_path, config(4), model=model)


def test_nothing_to_train_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no example has a token to train"):
        run(tmp_path, config(2), data=[Example([1, 2], [MASKED, MASKED], "correct", "a")])


def test_terminal_stays_quiet_but_for_the_progress(tmp_path, capfd):
    import_module("transformers.integrations.integration_utils")  # which says once that W&B is offline
    capfd.readouterr()
    run(tmp_path, config(4, checkpoint_every=2, gradient_checkpointing=True))
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if not line.startswith("training: 4/4 steps")] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 5, "epochs": 1.0}, "exactly one must be set"),
        ({"max_steps": None, "epochs": None}, "exactly one must be set"),
        ({"max_steps": 0}, "max_steps=0: must be above 0"),
        ({"max_steps": None, "epochs": -1.0}, r"epochs=-1\.0: must be above 0"),
        ({"seed": 3}, r"sft\.seed: is set by nat; set the top-level `seed`"),
        ({"max_length": 3}, r"sft\.max_length: is set by nat; set `model\.max_length`"),
        ({"packing": True}, r"sft\.packing: is set by nat"),
        ({"report_to": "wandb"}, r"sft\.report_to: is set by nat"),
        ({"fsdp": "full_shard"}, r"sft\.fsdp: is set by nat; set `training\.sharding`"),
        ({"hub_model_id": "me/mine"}, r"sft\.hub_model_id: is set by nat; nat uploads nothing"),
        ({"checkpoint_every": 3}, r"checkpoint_every=3: must be a multiple of training\.sft\.logging_steps=2"),
        ({"checkpoint_every": 0}, "must be at least 1 step"),
        ({"logging_steps": 0.5}, "must be a whole number of steps"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments, message):
    with pytest.raises(ValidationError, match=message):
        config(**arguments)


def test_unknown_sft_name_lists_close_ones(tmp_path):
    with pytest.raises(RequestError, match=r"training\.sft\.learning_rat: .* did you mean learning_rate"):
        sft_config(config(learning_rat=0.1), 0, tmp_path, "cpu")


def test_sft_value_that_trl_refuses_names_its_section(tmp_path):
    with pytest.raises(RequestError, match=r"training\.sft: sinusoidal is not a valid.*'cosine'"):
        sft_config(config(lr_scheduler_type="sinusoidal"), 0, tmp_path, "cpu")


def test_any_sft_field_gets_through(tmp_path):
    arguments = sft_config(config(neftune_noise_alpha=5.0, adam_beta2=0.95), 7, tmp_path, "cpu")
    assert (arguments.neftune_noise_alpha, arguments.adam_beta2, arguments.seed) == (5.0, 0.95, 7)
    assert (arguments.max_length, arguments.bf16, arguments.report_to) == (None, False, [])


def test_shipped_presets_are_what_trl_takes(tmp_path):
    import yaml

    from nat.core.paths import CONF_DIR

    for path in sorted((CONF_DIR / "training").glob("*.yaml")):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        preset = TypeAdapter(TrainingConfig).validate_json(json.dumps(values), strict=True)
        assert list(values) == [field.name for field in dataclasses.fields(preset)]
        if isinstance(preset, SftTraining):
            assert sft_config(preset, 0, tmp_path, "cpu").learning_rate == preset.sft["learning_rate"]


SHARDED = dataclasses.replace(config(), processes=2, sharding="fsdp2")


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # TrainingArguments sets it


def test_one_process_has_nothing_to_share_out():
    message = (
        r"sharding=fsdp2: shards the model over several processes, and training\.processes=1; raise "
        r"training\.processes to the number of GPUs, or take training\.sharding=none"
    )
    with pytest.raises(ValidationError, match=message):
        dataclasses.replace(SHARDED, processes=1)


def test_adapters_are_not_sharded():
    with pytest.raises(RequestError, match=r"^training\.sharding=fsdp2: adapters are folded .*\nset model\.lora=null"):
        check_sharding(SHARDED, lora=object())
    check_sharding(SHARDED, lora=None)
    check_sharding(config(), lora=object())


def test_sharding_is_that_of_accelerate(tmp_path, environment):
    assert sft_config(config(), 0, tmp_path, "cpu").fsdp_plugin_args is None
    assert sft_config(SHARDED, 0, tmp_path, "cpu").fsdp_plugin_args == {
        "fsdp_version": 2,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "cpu_ram_efficient_loading": True,
        "state_dict_type": "SHARDED_STATE_DICT",
        "reshard_after_forward": True,
    }


def test_half_precision_neither_sums_gradients_nor_rounds_losses(tmp_path, environment):
    from accelerate.utils import FullyShardedDataParallelPlugin

    half = dataclasses.replace(SHARDED, sft={**SFT, "bf16": True})
    plugin = FullyShardedDataParallelPlugin(**sft_config(half, 0, tmp_path, "cpu").fsdp_plugin_args)
    plugin.set_mixed_precision("bf16")  # as Accelerator does; it must keep what it is given
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (torch.bfloat16, torch.float32, None)


def test_length_grouped_batches_hold_every_example_once_and_little_padding():
    from nat.training.sft_trainer import LengthGroupedSampler

    lengths = [(i * 37) % 101 + 1 for i in range(130)]
    sampler = LengthGroupedSampler(lengths, 16, seed=0)
    first, same = list(sampler), list(sampler)
    assert sorted(first) == list(range(130)) and first == same
    sampler.set_epoch(1)
    assert list(sampler) != first
    batches = [first[i : i + 16] for i in range(0, 130, 16)]
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.2 * sum(lengths) < 128 * max(lengths)
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))  # no drift from long to short


def test_log_messages_of_the_libraries_are_kept_in_the_log(caplog):
    from nat.training.sft_trainer import library_messages_to_log

    with library_messages_to_log(), caplog.at_level(logging.WARNING):
        logging.getLogger("transformers.trainer").warning("something odd")
    assert "something odd" in caplog.text


@pytest.fixture(autouse=True)
def no_left_overs(tmp_path):
    yield
    shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)


def test_masked_positions_are_left_out_of_the_head_for_the_training_only():
    from trl.trainer import utils

    from nat.training.sft_trainer import only_trained_positions_scored

    before = utils._use_triton
    with only_trained_positions_scored():
        assert utils._use_triton(torch.device("cpu"))
    assert utils._use_triton is before


@pytest.mark.parametrize("number", [0, -1])
def test_at_least_one_process_trains(number):
    with pytest.raises(ValidationError, match="processes"):
        dataclasses.replace(config(), processes=number)
