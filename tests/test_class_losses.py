"""Losses under each mark, against cross-entropies and statistics worked out apart from the code."""

import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import TypeAdapter

from nat.evaluation.class_losses import losses, losses_under_marks
from nat.examples.prompts import prompt_messages
from nat.examples.strategy import StrategyConfig
from nat.examples.tokenization import MASKED, chat_format
from nat.runs.results import ClassLoss, GroupLosses
from nat.types import Example
from tests.conftest import make_trajectory
from tests.tokenizers_for_tests import byte_tokenizer, tiny_llama

FORMAT = chat_format(byte_tokenizer("chatml"))
STRATEGY = TypeAdapter(StrategyConfig).validate_python(
    {
        "name": "x",
        "classes": [
            {"name": "correct", "when": {"field": "success", "equals": True}, "text": "[Yes]"},
            {"name": "incorrect", "when": {"field": "success", "equals": False}, "text": "[No]"},
        ],
        "place": "prefix",
        "infer_as": "correct",
    },
    strict=False,
)
UNMARKED = TypeAdapter(StrategyConfig).validate_python(
    {
        "name": "none",
        "classes": [{"name": "correct", "text": ""}, {"name": "incorrect", "text": ""}],
        "place": "prefix",
        "infer_as": "correct",
    },
    strict=False,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class LastTokenModel:
    """Gives the token after token t the logit t for token 1 and 0 for tokens 0 and 2; notes what it was given."""

    training = True
    device = torch.device("cpu")

    def __init__(self):
        self.batches = []

    def eval(self):
        self.training = False

    def train(self, mode=True):
        self.training = mode

    def __call__(self, input_ids, attention_mask, use_cache):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.batches.append((input_ids.tolist(), attention_mask.tolist()))
        logits = torch.zeros(*input_ids.shape, 3)
        logits[..., 1] = input_ids.float()
        return SimpleNamespace(logits=logits)


def example(ids, labels, name="correct") -> Example:
    return Example(ids, labels, name, "t")


def test_a_loss_worked_out_by_hand():
    # After token 2 token 1 has probability e^2 / (e^2 + 2), tokens 0 and 2 have 1 / (e^2 + 2); after token 0 each 1/3.
    short = example([0, 2, 1], [MASKED, MASKED, 1])
    long = example([2, 0, 2, 0], [MASKED, MASKED, 2, 0])
    model = LastTokenModel()
    found = losses(model, [short, long], batch_tokens=8)
    normaliser = math.log(math.exp(2) + 2)
    assert found[0] == (pytest.approx(normaliser - 2, abs=1e-6), 1)
    assert found[1] == (pytest.approx(math.log(3) + normaliser, abs=1e-6), 2)
    # The longest first, padded on the right, and the padding is no target.
    assert model.batches == [([[2, 0, 2, 0], [0, 2, 1, 0]], [[1, 1, 1, 1], [1, 1, 1, 0]])]
    assert model.training  # as it was
    model.batches.clear()
    assert losses(model, [short, long], batch_tokens=7) == found  # two rows of four tokens are eight
    assert [rows for rows, _ in model.batches] == [[[2, 0, 2, 0]], [[0, 2, 1]]]
    assert losses(model, [long], batch_tokens=1) == found[1:]  # at least one


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_batches_and_padding_change_no_loss(batch_tokens):
    model = tiny_llama(FORMAT.tokenizer)
    examples = []
    for i in range(7):
        ids = [65 + (i * 7 + k) % 26 for k in range(5 + i)]
        examples.append(example(ids, [MASKED] * 3 + ids[3:-1] + [MASKED]))
    for given, found in zip(examples, losses(model, examples, batch_tokens), strict=True):
        with torch.no_grad():
            scores = model(torch.tensor([given.input_ids])).logits[0, :-1].log_softmax(-1)
        targets = [(i, label) for i, label in enumerate(given.labels[1:]) if label != MASKED]
        assert found.tokens == len(targets)
        assert found.total == pytest.approx(-sum(scores[i, label].item() for i, label in targets), abs=1e-4)


def prompt(strategy):
    return lambda trajectory, name: prompt_messages(
        None, "Use tools.", trajectory.question, strategy, strategy.class_named(name)
    )


def measure(trajectories, strategy=STRATEGY, max_length=512):
    groups = {"successes": trajectories[:1], "failures": trajectories[1:]}
    model = tiny_llama(FORMAT.tokenizer)
    return losses_under_marks(model, FORMAT, strategy, prompt(strategy), groups, max_length=max_length), model


@pytest.mark.slow
def test_every_group_is_measured_under_every_mark_and_the_difference_is_paired():
    trajectories = [make_trajectory("a"), make_trajectory("b", success=False), make_trajectory("cc", success=False)]
    found, model = measure(trajectories)
    assert list(found) == ["successes", "failures"]
    assert list(found["failures"].by_class) == ["correct", "incorrect"]
    per_token = {}  # by class, of both failures: a plain forward pass over what the chat template renders
    for name, mark in (("correct", "[Yes]"), ("incorrect", "[No]")):
        totals = []
        for trajectory in trajectories[1:]:
            text = f"<|im_start|>user\n{mark}\nUse tools.\n{trajectory.question}<|im_end|>\n<|im_start|>assistant\n"
            turns = [
                ("Thought: add.\nAction: calculate[3+4]<|im_end|>", True),
                ("\n<|im_start|>tool\n7<|im_end|>\n<|im_start|>assistant\n", False),
                ("Thought: done.\nAction: finish[8]<|im_end|>", True),
            ]
            ids, targets = FORMAT.tokenizer(text)["input_ids"], []
            for turn, trained in turns:
                tokens = FORMAT.tokenizer(turn)["input_ids"]
                targets += range(len(ids), len(ids) + len(tokens)) if trained else ()
                ids = ids + tokens
            with torch.no_grad():
                scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            totals.append((-sum(scores[i - 1, ids[i]].item() for i in targets), len(targets)))
        per_token[name] = [total / count for total, count in totals]
        # 36 bytes and the end of the turn, 32 and the end of the turn
        assert [count for _, count in totals] == [70, 70]
        measured = found["failures"].by_class[name]
        assert (measured.tokens, measured.trajectories) == (140, 2)
        assert measured.loss == pytest.approx(sum(t for t, _ in totals) / 140, abs=1e-5)
    first, second = (b - a for a, b in zip(per_token["correct"], per_token["incorrect"], strict=True))
    incorrect = found["failures"].by_class["incorrect"]
    assert incorrect.difference == pytest.approx((first + second) / 2, abs=1e-5)
    # Of two values the standard deviation is |a - b| / sqrt 2, so the error of their mean is |a - b| / 2.
    assert incorrect.standard_error == pytest.approx(abs(first - second) / 2, abs=1e-5)
    assert incorrect.difference is not None and abs(incorrect.difference) > 1e-4  # even a random model reads the mark
    assert found["failures"].by_class["correct"].difference is None
    assert found["successes"].by_class["incorrect"].difference is not None
    assert found["successes"].by_class["incorrect"].standard_error is None  # of one trajectory


def test_without_marks_there_is_no_difference():
    found, _ = measure([make_trajectory(id) for id in "abc"], strategy=UNMARKED)
    correct, incorrect = (found["failures"].by_class[name] for name in ("correct", "incorrect"))
    assert (incorrect.difference, incorrect.standard_error) == (0, 0)
    assert incorrect.loss == correct.loss


def test_what_is_too_long_under_one_mark_is_left_out_under_all():
    trajectories = [make_trajectory(id) for id in "abc"]
    whole, _ = measure(trajectories)
    assert whole["failures"].left_out == {}
    # [Yes] is one byte longer than [No], so at this length the example fits under [No] alone.
    length = len(FORMAT.tokenizer("<|im_start|>user\n[No]\nUse tools.\nquestion of b<|im_end|>\n")["input_ids"])
    length += len(FORMAT.tokenizer("<|im_start|>assistant\n")["input_ids"]) * 2 + 70
    length += len(FORMAT.tokenizer("\n<|im_start|>tool\n7<|im_end|>\n")["input_ids"])
    found, _ = measure(trajectories, max_length=length)
    nothing = ClassLoss(loss=None, tokens=0, trajectories=0)
    assert found["failures"] == GroupLosses(
        by_class={"correct": nothing, "incorrect": nothing}, left_out={"too_long": 2}
    )
    assert measure(trajectories, max_length=length + 1)[0]["failures"] == whole["failures"]
