"""Tiny local tokenizers under chat templates of five kinds, and a tiny random model. No files, no network.

The templates are our own, written to behave as the named families' do where that matters to training.
"""

from __future__ import annotations

from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Alternating roles only, the system text inside the first user turn, spaces around the agent's text.
LLAMA2 = (
    "{% set ns = namespace(system='') %}"
    "{% if messages[0].role == 'system' %}{% set ns.system = '<<SYS>>\n' ~ messages[0].content ~ '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}<s>[INST] {{ (ns.system if loop.first else '') ~ m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)
# Prints a date unless it is given one; tool results go out as JSON under another role's name.
LLAMA3 = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "<|begin|><|head|>system<|/head|>\n\nToday Date: {{ date_string }}\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% set messages = messages[1:] %}{% endif %}"
    "<|eot|>{% for m in messages %}<|head|>{{ 'ipython' if m.role == 'tool' else m.role }}<|/head|>\n\n"
    "{{ m.content | tojson if m.role == 'tool' else m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
# No system role, alternating user and model turns.
GEMMA = (
    "<bos>{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
# Only the last agent turn shows its (here always empty) thoughts: every earlier turn is rewritten.
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% if loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SPECIAL_TOKENS = {
    "chatml": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama2": ["</s>", "<s>"],
    "llama3": ["<|eot|>", "<|begin|>", "<|head|>", "<|/head|>"],
    "gemma": ["<eos>", "<bos>", "<turn>", "<end_of_turn>"],
    "qwen3": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}
TEMPLATES = {"chatml": CHATML, "llama2": LLAMA2, "llama3": LLAMA3, "gemma": GEMMA, "qwen3": QWEN3}


def byte_tokenizer(kind: str, chat_template: str | None = None) -> Any:
    """One token a byte (ids 0-255 are no special tokens), the kind's special tokens behind them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _wrapped(PreTrainedTokenizerFast, tokenizer, kind, chat_template)


def sentencepiece_tokenizer(kind: str, chat_template: str | None = None) -> Any:
    """As Llama 2's: spaces are `▁`, one is put before every text, bytes stand for what is not printable ASCII."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [f"<0x{byte:02X}>" for byte in range(256)] + [chr(i) for i in range(33, 127)] + ["▁"]
    merges = [("▁", "T"), ("a", "d"), ("h", "o")]
    pieces += ["".join(pair) for pair in merges]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, byte_fallback=True, fuse_unk=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _wrapped(PreTrainedTokenizerFast, tokenizer, kind, chat_template)


def _wrapped(wrapper: Any, tokenizer: Any, kind: str, chat_template: str | None) -> Any:
    first, *others = SPECIAL_TOKENS[kind]
    bos = {"llama2": "<s>", "llama3": "<|begin|>", "gemma": "<bos>"}.get(kind)
    names = {"eos_token": first, **({"bos_token": bos} if bos else {})}
    wrapped = wrapper(tokenizer_object=tokenizer, additional_special_tokens=others, **names)
    wrapped.chat_template = TEMPLATES[kind] if chat_template is None else chat_template
    return wrapped


def tiny_llama(tokenizer: Any, seed: int = 0, width: int = 32, layers: int = 2, positions: int = 512) -> Any:
    """A random Llama over the tokenizer's vocabulary, on the CPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=positions,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )
