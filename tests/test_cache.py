from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from nat.core import cache
from nat.examples.encoding import decode_examples, encode_examples
from nat.examples.tokenization import MASKED, Dropped
from nat.types import Example, Message, Outcome, Question, Trajectory


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache of this test's own."""
    monkeypatch.setenv("NAT_CACHE", str(tmp_path / "cache"))
    cache._memory.clear()
    yield tmp_path / "cache"
    cache._memory.clear()


class Work:
    """Counts how often it is done."""

    def __init__(self, value=(1, 2)) -> None:
        self.done, self.value = 0, list(value)

    def __call__(self, inputs="a", kind="kind"):
        def compute():
            self.done += 1
            return self.value

        return cache.cached(kind, inputs, compute, cache.encode_json, cache.decode_json)


def entry(place):
    (path,) = (path for path in place.iterdir() if not path.name.startswith("."))
    return path


def test_equal_inputs_are_computed_once_and_read_from_memory_or_disk(place):
    work = Work()
    assert [work(), work()] == [[1, 2], [1, 2]]
    assert work.done == 1
    cache._memory.clear()  # as in another process
    assert work() == [1, 2]
    assert work.done == 1
    entry(place).unlink()
    assert work() == [1, 2]  # from memory
    assert work.done == 1


def test_what_is_read_is_a_value_of_its_own(place):
    work = Work()
    work()
    work().append(3)
    assert work() == [1, 2]


def test_other_inputs_other_kind_and_other_code_are_computed_again(place, monkeypatch):
    work = Work()
    work("a"), work("b"), work("a", kind="other")
    assert work.done == 3
    monkeypatch.setattr(cache, "_code", lambda: "an edited file")
    work("a")
    assert work.done == 4
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    work("a")
    assert work.done == 5


def test_an_edited_source_file_changes_the_code_part_of_the_key(tmp_path, monkeypatch):
    cache._code.cache_clear()
    before = cache._code()
    (tmp_path / "cache.py").write_text("edited = True\n")
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    cache._code.cache_clear()
    assert cache._code() != before
    cache._code.cache_clear()


@pytest.mark.parametrize("word", ["off", "OFF", "0", "none"])
def test_switched_off_everything_is_computed_each_time(place, monkeypatch, word):
    monkeypatch.setenv("NAT_CACHE", word)
    work = Work()
    work(), work()
    assert work.done == 2
    assert cache.cache_directory() is None
    assert not place.exists()
    assert not cache._memory


def damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "changed":
        path.write_bytes(content[:-1] + b"X")
    else:  # whole, but no JSON
        cache._write(path, b"[1, 2")


@pytest.mark.parametrize("how", ["cut", "empty", "changed", "no JSON"])
def test_a_damaged_entry_is_removed_and_computed_again(place, how):
    work = Work()
    work()
    whole = entry(place).read_bytes()
    damage(entry(place), how)
    cache._memory.clear()
    assert work() == [1, 2]
    assert work.done == 2
    assert entry(place).read_bytes() == whole


def test_a_place_that_is_no_directory_only_means_that_nothing_is_kept(place):
    place.write_text("a file")
    work = Work()
    assert work() == [1, 2]
    assert work() == [1, 2]  # from memory
    assert place.read_text() == "a file"


def test_a_full_disk_leaves_no_entry_and_no_temporary_file(place, monkeypatch):
    work = Work()
    replace = cache.Path.replace

    def no_space(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.Path, "replace", no_space)
    assert work() == [1, 2]
    assert list(place.iterdir()) == []
    monkeypatch.setattr(cache.Path, "replace", replace)


@pytest.mark.slow
def test_concurrent_writers_and_readers_see_whole_entries(place):
    code = (
        "import sys; from nat.core import cache\n"
        "value = list(range(50_000))\n"
        "for _ in range(60):\n"
        "    cache._memory.clear()\n"
        "    got = cache.cached('k', 'i', lambda: value, cache.encode_json, cache.decode_json)\n"
        "    assert got == value\n"
        "    cache._write(cache.cache_directory() / next(iter(cache._memory)), cache.encode_json(value))\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for worker in workers:
        _, error = worker.communicate()
        assert worker.returncode == 0, error
    assert len(list(place.iterdir())) == 1  # one entry, no temporary file


def test_the_least_recently_used_entries_go_when_there_are_too_many(place, monkeypatch):
    for name in "abc":
        cache._write(place / name, b"x" * 68)  # 100 bytes with the checksum
    for age, name in ((30, "a"), (20, "b"), (10, "c")):
        os.utime(place / name, (time.time() - age, time.time() - age))
    assert cache._read(place / "a") == b"x" * 68  # used now
    monkeypatch.setattr(cache, "MAX_DISK_BYTES", 300)
    cache._write(place / "d", b"x" * 68)
    assert sorted(path.name for path in place.iterdir()) == ["a", "c", "d"]
    cache._write(place / "e", b"x" * 400)  # larger than all that may be kept
    assert sorted(path.name for path in place.iterdir()) == ["a", "c", "d"]


def test_temporary_files_of_killed_writers_go_after_a_while(place):
    place.mkdir()
    for name, age in ((".old.tmp", 7200), (".new.tmp", 60)):
        (place / name).write_text("")
        os.utime(place / name, (time.time() - age, time.time() - age))
    Work()()
    assert [path.name for path in place.iterdir() if path.suffix == ".tmp"] == [".new.tmp"]


def test_memory_is_bounded(place, monkeypatch):
    monkeypatch.setattr(cache, "MAX_MEMORY_BYTES", 20)
    for name in "abc":
        Work([1000, 2000])(name)  # 12 bytes of JSON
    assert len(cache._memory) == 1


def test_where_entries_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("NAT_CACHE", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_directory() == tmp_path / "mine"
    monkeypatch.delenv("NAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform.startswith("linux"):
        assert cache.cache_directory() == tmp_path / "xdg" / "negative-aware-training"


def test_trajectories_and_questions_come_back_as_they_were():
    trajectories = [
        Trajectory(
            "a",
            "q",
            "Wie viele \N{GREEK SMALL LETTER PI}? \ud800",
            (Message("assistant", "x", False, ({"name": "f", "arguments": {"n": 1.5}},)), Message("tool", "7")),
            Outcome(False, 0.1, "wrong_answer", None, "7"),
            "s",
            {"errors": ["x", None], "rate": 0.15, "deep": {"b": [1, 2.0, True]}},
        ),
        Trajectory("b", "q", "", (), Outcome(True, 1.0)),
    ]
    assert cache.decode_trajectories(cache.encode_trajectories(trajectories)) == trajectories
    questions = [Question("q", "6 + 11?", "17", {"steps": [["+", "11"]]}), Question("r", "", "")]
    assert cache.decode_questions(cache.encode_questions(questions)) == questions


@pytest.mark.parametrize(
    "examples",
    [
        [],
        [Example([5, 7, 8], [MASKED, 7, 8], "correct", "a"), Example([70_000], [MASKED], "incorrect", "b")],
        [Example([], [], "correct", "a"), Example([3], [3], "correct", "b")],
    ],
)
def test_examples_come_back_as_they_were(examples):
    dropped = [Dropped("c", "too_long", "9 tokens, over 8")]
    assert decode_examples(encode_examples((examples, dropped))) == (examples, dropped)


def test_tokenizers_that_differ_in_their_template_or_vocabulary_have_other_fingerprints():
    from tests.tokenizers_for_tests import CHATML, byte_tokenizer

    a, same, other = byte_tokenizer("chatml"), byte_tokenizer("chatml"), byte_tokenizer("chatml", CHATML + "!")
    assert cache.tokenizer_fingerprint(a) == cache.tokenizer_fingerprint(same) is not None
    assert cache.tokenizer_fingerprint(a) != cache.tokenizer_fingerprint(other)
    same.add_tokens(["zebra"])
    assert cache.tokenizer_fingerprint(a) != cache.tokenizer_fingerprint(same)
    assert cache.tokenizer_fingerprint(object()) is None
