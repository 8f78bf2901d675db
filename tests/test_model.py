from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from nat.examples.tokenization import chat_format, encode_prompt
from nat.model import LoraConfig, ModelConfig, load_model, load_tokenizer, merged, resolve_device, save_model
from nat.types import Message, RequestError
from tests.tokenizers_for_tests import byte_tokenizer, tiny_llama

PROMPT = [Message("system", "Be brief."), Message("user", "Solve this.\nQuestion: {question}\nCorrectly, please.")]


def config(path, **changes) -> ModelConfig:
    values = {
        "name": "test",
        "path": str(path),
        "revision": None,
        "chat_template": None,
        "max_length": 512,
        "dtype": "float32",
        "attention": "sdpa",
        "lora": None,
        "threads": None,
    }
    return ModelConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with a tiny Gemma-like model (system text folds) and the model itself."""
    directory = tmp_path_factory.mktemp("models") / "model"
    tokenizer = byte_tokenizer("gemma")
    model = tiny_llama(tokenizer).eval()
    save_model(model, chat_format(tokenizer), directory, PROMPT, stop=["\nObservation"], facts={"method": "nat"})
    return directory, model


def test_saved_model_loads_again_with_its_tokenizer(saved):
    directory, model = saved
    tokens = torch.tensor([[65, 66, 67]])
    loaded = load_model(config(directory), "cpu")
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    assert not loaded.training
    format = chat_format(load_tokenizer(config(directory)))
    assert encode_prompt(format, PROMPT) == encode_prompt(chat_format(byte_tokenizer("gemma")), PROMPT)


def test_saved_prompt_is_what_the_template_takes(saved):
    inference = json.loads((saved[0] / "inference.json").read_text())
    content = "Be brief.\n\nSolve this.\nQuestion: {question}\nCorrectly, please."
    assert inference == {
        "prompt": [{"role": "user", "content": content}],
        "observation_role": "user",
        "end_of_turn": "<end_of_turn>",
        "stop": ["\nObservation"],
    }


@pytest.mark.slow
def test_snippet_in_the_model_card_runs(saved):
    directory, _ = saved
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert "- method: nat" in card
    snippet = card.split("```python\n")[1].split("```")[0].replace("max_new_tokens=128", "max_new_tokens=2")
    done = subprocess.run([sys.executable, "-c", snippet], cwd=directory, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_prompt_without_a_place_for_the_question_is_refused(tmp_path):
    tokenizer = byte_tokenizer("chatml")
    with pytest.raises(ValueError, match=r"no \{question\}"):
        save_model(tiny_llama(tokenizer), chat_format(tokenizer), tmp_path, [Message("user", "hello")])


def test_adapters_are_merged_when_saved(saved, tmp_path):
    directory, model = saved
    lora = LoraConfig(r=4, alpha=8, dropout=0.0, target_modules=["q_proj"])
    adapted = load_model(config(directory, lora=lora), "cpu")
    for name, parameter in adapted.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.1)
    tokens = torch.tensor([[65, 66, 67]])
    with torch.no_grad():
        expected = adapted(tokens).logits
    assert not torch.allclose(expected, model(tokens).logits, atol=1e-4)
    save_model(adapted, chat_format(byte_tokenizer("gemma")), tmp_path / "m", PROMPT)
    loaded = load_model(config(tmp_path / "m"), "cpu")
    torch.testing.assert_close(loaded(tokens).logits, expected, atol=1e-4, rtol=1e-4)
    assert merged(loaded) is loaded


def test_seed_decides_the_adapters_first_values(saved):
    lora = LoraConfig(r=4, alpha=8, dropout=0.0, target_modules=["q_proj"])

    def first_adapter(seed):
        model = load_model(config(saved[0], lora=lora), "cpu", seed)
        return next(p for name, p in model.named_parameters() if "lora_A" in name)

    assert torch.equal(first_adapter(1), first_adapter(1))
    assert not torch.equal(first_adapter(1), first_adapter(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "no/such/directory"}, r"model\.path=no/such/directory: no such directory, and no hub id"),
        ({"path": "./nothing"}, r"model\.path=\./nothing: no such directory"),
        ({"path": "/etc/passwd"}, r"model\.path=/etc/passwd: is a file"),
        ({"path": "{tmp}"}, r"model\.path=.*: the directory holds no model \(no config\.json\)"),
        ({"chat_template": "plane"}, r"model\.chat_template=plane: neither plain nor chatml, and no file"),
    ],
)
def test_what_is_not_there_is_named_with_its_key(saved, tmp_path, changes, message):
    changes = {key: value.replace("{tmp}", str(tmp_path)) for key, value in changes.items()}
    with pytest.raises(RequestError, match=message):
        load_tokenizer(config(**{"path": saved[0], **changes}))


def test_directory_with_a_broken_model_is_a_request_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RequestError, match=r"model\.path=.*: no tokenizer can be loaded"):
        load_tokenizer(config(tmp_path))
    with pytest.raises(RequestError, match=r"model\.path=.*: no model can be loaded"):
        load_model(config(tmp_path), "cpu")


@pytest.mark.slow
def test_hub_id_that_cannot_be_fetched_is_a_request_error(tmp_path):
    code = (
        "from tests.test_model import config\nfrom nat.model import load_tokenizer\n"
        "from nat.types import RequestError\n"
        "try:\n    load_tokenizer(config('nobody/nothing'))\nexcept RequestError as error:\n    print(error)"
    )
    environment = {"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.startswith("model.path=nobody/nothing: no tokenizer can be loaded"), done.stderr


def test_max_length_over_the_model_s_positions_is_refused(saved):
    with pytest.raises(RequestError, match=r"model\.max_length=513: test has 512 positions"):
        load_model(config(saved[0], max_length=513), "cpu")


def test_adapters_on_modules_that_are_not_there_are_refused(saved):
    lora = LoraConfig(r=4, alpha=8, dropout=0.0, target_modules=["no_such_module"])
    with pytest.raises(RequestError, match=r"model\.lora: .*no_such_module"):
        load_model(config(saved[0], lora=lora), "cpu")


@pytest.mark.parametrize("template", ["plain", "file"])
def test_chat_template_of_the_config_replaces_the_tokenizer_s(saved, tmp_path, template):
    if template == "file":
        path = tmp_path / "mine.jinja"
        path.write_text("{% for m in messages %}{{ m.content + eos_token }}{% endfor %}")
        template = str(path)
    tokenizer = load_tokenizer(config(saved[0], chat_template=template))
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert rendered == ("<bos>### User\nHi\n" if template == "plain" else "Hi<eos>")


def test_tokenizer_of_a_plain_fast_kind_loads_without_torch(saved):
    code = (
        "import sys\nfrom nat.model import ModelConfig, load_tokenizer\n"
        "from nat.examples.tokenization import chat_format\n"
        f"config = ModelConfig(name='m', path={str(saved[0])!r}, revision=None, chat_template=None, max_length=512, "
        "dtype='float32', attention='sdpa', threads=None, lora=None)\n"
        "chat_format(load_tokenizer(config))\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


def test_device(monkeypatch):
    assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(RequestError, match=r"training\.device=cuda: no CUDA GPU"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == "cuda"
