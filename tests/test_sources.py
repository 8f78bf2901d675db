"""Whatever stands in a file, its good records are read and each flaw is named by its place."""

import gzip
import hashlib
import io
import json
import random
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow
import pytest

from nat.core import archives
from nat.core.files import content_hash
from nat.core.rows import sources
from nat.core.rows.bad import BadRow, refuse
from nat.core.rows.json_lines import read_objects
from nat.core.rows.json_records import read_records
from nat.types import RequestError

ROWS = [{"n": i, "text": "ж" * i} for i in range(1, 4)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def read(path: Path, content: bytes | None = None) -> tuple[list[tuple[str, object]], list[tuple[str, str]]]:
    """The records' places and values of `n` (else the whole value), and the bad rows' places and reasons."""
    if content is not None:
        path.write_bytes(content)
    bad: list[BadRow] = []
    good = [(place(where), record.value.get("n", record.value)) for where, record in read_records(path, bad.append)]
    return good, [(place(row.where), row.reason) for row in bad]


def place(where: str) -> str:
    return where.rpartition(":")[2].strip().removeprefix("record ")


def problems(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    bad: list[BadRow] = []
    list(read_records(path, bad.append))
    assert all(len(row.problem) < 400 and row.problem.replace("\n", "").isprintable() for row in bad)
    return [row.problem for row in bad]


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (LINES, "123"),
        (json.dumps(ROWS).encode(), "123"),  # of one line: numbers of records
        (json.dumps(ROWS, indent=1).encode(), ["2", "6", "10"]),
        (json.dumps({str(row["n"]): row for row in ROWS}).encode(), "123"),
        (json.dumps({str(row["n"]): row for row in ROWS}, indent=1).encode(), ["2", "6", "10"]),
        ("\n".join(json.dumps(row, indent=1) for row in ROWS).encode(), ["1", "5", "9"]),
    ],
)
def test_every_shape_plain_and_packed(tmp_path, content, places):
    expected = [(line, n) for line, n in zip(places, (1, 2, 3), strict=True)], []
    assert read(tmp_path / "a.json", content) == expected
    assert read(tmp_path / "a.json.gz", gzip.compress(content)) == expected
    assert read(tmp_path / "no_suffix", gzip.compress(b"\xef\xbb\xbf" + content)) == expected


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        # Cut: rows before the break are kept.
        (b'[{"n": 1},\n{"n": 2},\n{"n": 3', [("1", 1), ("2", 2)], [("3", "broken_file")]),
        (b'[{"n": 1},\n{"n": 2},\n{"n": "thr', [("1", 1), ("2", 2)], [("3", "broken_file")]),
        (b'[{"n": 1},\n', [("1", 1)], [("2", "broken_file")]),
        (b'[{"n": 1}', [("1", 1)], [("1", "broken_file")]),
        (b'[{"n": 1}\n {"n": 2}]', [("1", 1)], [("2", "broken_file")]),
        (b'{"a": {"n": 1},\n"b": {"n": 2},\n "c": {"n', [("1", 1), ("2", 2)], [("3", "broken_file")]),
        (b'{"a": {"n": 1},\n 7: {}}', [("1", 1)], [("2", "broken_file")]),
        (b'{"a"\n\n {}}', [], [("3", "broken_file")]),
        (b'{\n"n": 1\n}\n{\n"n": 2', [("1", 1)], [("5", "broken_file")]),
        (b'{"n": 1}\n{"n": 2}\n{"n": ', [("1", 1), ("2", 2)], [("3", "not_json")]),
        (b'{"n": ', [], [("1", "broken_file")]),
        (b"[", [], [("1", "broken_file")]),
        # One bad row among good ones, the first one too.
        (b'{"n": 1, "t\n{"n": 2}\n', [("2", 2)], [("1", "not_json")]),
        (b'[1, 2]\n{"n": 2}\n', [("2", 2)], [("1", "not_json")]),
        (b'[{"n": 1}\n{"n": 2}\n', [("2", 2)], [("1", "not_json")]),
        (b'{"n":\n{"n": 2}\n', [("2", 2)], [("1", "not_json")]),
        (b'\x00{"n": 1}\n{"n": 2}\n', [("2", 2)], [("1", "not_json")]),
        (b'tail"}\n{"n": 2}\n', [("2", 2)], [("1", "not_json")]),
        (b"\n\n7", [], [("3", "not_json")]),
        (b'[1, {"n": 2}] 3', [("2", 2)], [("1", "not_json"), ("3", "broken_file")]),
        # Not UTF-8: latin-1 in one row, of lines and of a list.
        (b'{"n": 1}\n{"n": "\xe9"}\n{"n": 3}', [("1", 1), ("3", 3)], [("2", "not_json")]),
        (b'{"n": "\xe9"}\n{"n": 2}', [("2", 2)], [("1", "not_json")]),
        (b'[{"n": 1},\n{"n": "\xe9"},\n{"n": 3}]', [("1", 1), ("3", 3)], [("2", "not_json")]),
        # Values that JSON has no place for.
        (b'{"n": NaN}\n{"n": -Infinity}\n{"n": 1e999}\n{"n": 4}', [("4", 4)], [(n, "not_json") for n in "123"]),
        (b'[{"n": NaN},\n{"n": -Infinity},\n{"n": 1e999},\n{"n": 4}]', [("4", 4)], [(n, "not_json") for n in "123"]),
        (b'{"n": %b}\n{"n": 2}' % (b"1" * 5000), [("2", 2)], [("1", "not_json")]),
        (b'[{"n": %b},\n{"n": 2}]' % (b"1" * 5000), [("2", 2)], [("1", "not_json")]),
        (b'{"n": "\\ud800"}\n{"n": "\\ud83d\\ude00"}', [("2", "😀")], [("1", "not_json")]),
        # Keys that stand twice: two records of one id are both there, in a record the last value counts.
        (b'{"a": {"n": 1},\n"a": {"n": 2}}', [("1", 1), ("2", 2)], []),
        (b'{"n": 1, "n": 2}', [("1", 2)], []),
        # Null bytes: raw ones are no JSON, escaped ones are a character.
        (b'{"n": "a\x00b"}\n{"n": "\\u0000"}\n\x00\x00\n', [("2", "\0")], [("1", "not_json"), ("3", "not_json")]),
        # Nested without end, and so deep that the next stage could not copy it.
        (b'{"n": 1}\n{"n": %b\n{"n": 3}' % (b"[" * 100_000), [("1", 1), ("3", 3)], [("2", "not_json")]),
        (b'{"n": %b1%b}\n{"n": 2}' % (b"[" * 200, b"]" * 200), [("2", 2)], [("1", "not_json")]),
        (b'[{"n": %b1%b},\n{"n": 2}]' % (b"[" * 200, b"]" * 200), [("2", 2)], [("1", "not_json")]),
        (b'[{"n": 1},\n{"n": %b' % (b"[" * 100_000), [("1", 1)], [("2", "broken_file")]),
        # Nothing.
        (b"", [], []),
        (b"\n \r\n", [], []),
        (b"\xef\xbb\xbf", [], []),
        (b"[]", [], []),
    ],
)
def test_bad_input_is_named_and_the_rest_is_read(tmp_path, content, good, bad):
    assert read(tmp_path / "a.json", content) == (good, bad)
    assert read(tmp_path / "a.json.gz", gzip.compress(content)) == (good, bad)


def test_what_is_said_of_bad_rows(tmp_path):
    path = tmp_path / "a.json"
    assert problems(path, b'[{"n": 1},\n {"n": 2') == [
        "not valid JSON: Expecting ',' delimiter; what follows cannot be read."
    ]
    assert problems(path, b'[{"n": 1}\n {"n": 2}]') == [
        "not valid JSON: expecting ','; what follows cannot be read.\n  {\"n\": 2}]"
    ]
    assert problems(path, b'{"n": 1}\n{"n": 2,}\n') == [
        'not valid JSON: Expecting property name enclosed in double quotes: character 9\n  {"n": 2,}'
    ]
    assert problems(path, b'[{"n": "caf\xe9"}]') == ['not UTF-8 (byte 0xe9 after \'{"n": "caf\'); convert the file.']
    assert problems(path, b'{"n": 1}\n{"n": "caf\xe9"}') == [
        "not UTF-8 (invalid continuation byte at byte 10); convert the file."
    ]
    assert problems(path, b'{"n": 1}\n{"n": "\x00\x1b[2J"}\n') == [
        'not valid JSON: Invalid control character at: character 8\n  {"n": "\\x00\\x1b[2J"}'
    ]


def test_refusing_stops_at_the_first_bad_row(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"n": 1},\n{"n": 2')
    found = read_records(path, refuse)
    assert next(found)[1].value == {"n": 1}
    with pytest.raises(BadRow, match=r"a.json:2: not valid JSON") as error:
        next(found)
    assert error.value.reason == "broken_file"


def test_an_error_of_who_takes_the_bad_rows_is_his_own(tmp_path):
    def full(bad: BadRow) -> None:
        raise OSError("disk full")

    for content in (b'{"n": 1}\n7\n', b'[{"n": 1}, 7]', b'[{"n": 1}'):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(OSError, match="disk full"):
            list(read_records(tmp_path / "a", full))


def packed(n: int, as_list: bool = False) -> bytes:
    """A gzip of n records that do not pack well."""
    draw = random.Random(0)
    rows = [json.dumps({"n": i, "text": draw.randbytes(400).hex()}) for i in range(n)]
    return gzip.compress((f"[{','.join(rows)}]" if as_list else "\n".join(rows)).encode())


@pytest.mark.parametrize("as_list", [False, True])
def test_half_a_gzip_and_a_damaged_one(tmp_path, as_list):
    whole = packed(1000, as_list)
    good, bad = read(tmp_path / "half.gz", whole[: len(whole) // 2])
    assert [n for _, n in good] == list(range(len(good)))
    assert 490 < len(good) <= 500  # to the last one before the cut
    assert [reason for _, reason in bad] == ["broken_file"]
    assert bad[0][0] == str(len(good) + 1)

    middle = len(whole) // 2
    good, bad = read(tmp_path / "damaged.gz", whole[:middle] + b"\x00" * 64 + whole[middle + 64 :])
    assert [n for _, n in good] == list(range(len(good)))
    assert 300 < len(good) < 1000
    assert [reason for _, reason in bad][-1:] == ["broken_file"]

    good, bad = read(tmp_path / "sum.gz", whole[:-8] + b"\x00" * 8)  # all is there, but its checksum is wrong
    assert (len(good), [reason for _, reason in bad]) == (1000, ["broken_file"])


def test_a_gzip_of_which_nothing_can_be_read(tmp_path):
    path = tmp_path / "a.gz"
    for content in (b"\x1f\x8b", packed(1)[:12], b"\x1f\x8bnot a gzip at all"):
        path.write_bytes(content)
        with pytest.raises(
            RequestError, match=r"a.gz: nothing of it can be read: the gzip .*\nMake or copy it again"
        ) as error:
            read(path)
        assert not isinstance(error.value, BadRow)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"n": 1}'.encode("utf-16"), "UTF-16 text, which is not read.\nConvert it: iconv -f UTF-16 -t UTF-8"),
        ('{"n": 1}'.encode("utf-32"), "UTF-32 text, which is not read.\nConvert it: iconv -f UTF-32 -t UTF-8"),
        ('[{"n": 1}]'.encode("utf-16-le"), "UTF-16 text, .*\n.*iconv -f UTF-16LE"),
        ('{"n": 1}'.encode("utf-16-be"), "UTF-16 text, .*\n.*iconv -f UTF-16BE"),
        (b"PK\x03\x04" + bytes(100), "a zip archive, which is not read.\nUnpack it"),
        (b"ARROW1\0\0", "an Arrow file, which is not read.\nGive the directory that `save_to_disk` wrote"),
        (random.Random(0).randbytes(5000), "a binary file.\nGive JSON, JSON Lines, either packed"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "a binary file"),
        (b"PAR1" + bytes(1000), "a Parquet file that cannot be read .*\n.*was it cut"),
    ],
)
def test_a_file_that_cannot_be_read_at_all(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=f"a.jsonl: {message}") as error:
        list(read_records(path, lambda bad: None))
    assert not isinstance(error.value, BadRow)
    assert len(str(error.value)) < 600
    if not content.startswith(b"PAR1"):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(RequestError, match=f"a.jsonl: {message}"):
            list(read_objects(path))


def test_what_is_not_there(tmp_path):
    with pytest.raises(RequestError, match=r"none.json: cannot be read: No such file"):
        list(read_records(tmp_path / "none.json", refuse))
    with pytest.raises(RequestError, match=rf"{tmp_path} is a directory without a dataset.\nGive JSON, "):
        list(read_records(tmp_path, refuse))


def test_records_that_end_where_reading_stops(tmp_path, monkeypatch):
    """Every place is the end of what was read at once, in turn: nothing depends on it."""
    text = '[ {"n": 12, "é": [-1.5e3, true, null]},\n{"n": "\\u00e9😀\\n"}, 7,\n {"n": 3}]\n'
    path = tmp_path / "a.json"
    path.write_text(text)
    whole = read(path)
    assert whole == ([("1", 12), ("2", "é😀\n"), ("3", 3)], [("2", "not_json")])
    for size in range(1, 40):
        monkeypatch.setattr("nat.core.rows.json_records._CHUNK", size)
        monkeypatch.setattr(sources, "STEP", size)
        assert read(path) == whole


def test_a_line_that_is_too_long_is_skipped(tmp_path, monkeypatch):
    long = json.dumps({"n": "x" * 3000}).encode()
    good = b'{"n": 1}\n%b\n{"n": 3}\n%b' % (long, long)
    path = tmp_path / "a.jsonl"
    assert [n for n, _ in read(path, good)[0]] == ["1", "2", "3", "4"]
    monkeypatch.setattr(sources, "LONGEST", 2000)
    assert read(path) == ([("1", 1), ("3", 3)], [("2", "too_long"), ("4", "too_long")])
    monkeypatch.setattr("nat.core.rows.json_records._CHUNK", 100)
    monkeypatch.setattr(sources, "STEP", 100)
    long = json.dumps({"n": "x" * 5000}).encode()
    assert read(path, b'[{"n": 1},\n%b,\n{"n": 3}]' % long) == ([("1", 1)], [("2", "broken_file")])
    assert problems(path, b"[%b]" % long) == ["a record of more than 0 MiB; what follows cannot be read."]


@pytest.mark.slow
def test_a_line_of_50_megabytes(tmp_path):
    path = tmp_path / "a.jsonl"
    for monster, bad in ((json.dumps({"n": "x" * 50_000_000}).encode(), []), (b"x" * 50_000_000, [("2", "not_json")])):
        path.write_bytes(b'{"n": 1}\n%b\n{"n": 3}\n' % monster)
        good, found = read(path)
        assert ([where for where, _ in good], found) == (["1", "3"] if bad else ["1", "2", "3"], bad)
    path.write_bytes(b'{"n": 1}\n' + b"y" * (sources.LONGEST + 1) + b'\n{"n": 3}\n')
    assert read(path) == ([("1", 1), ("3", 3)], [("2", "too_long")])


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["lines", "list", "object", "table"])
def test_a_file_is_read_in_constant_memory(tmp_path, shape):
    """20 MB, of which no more than a few are held."""
    path = tmp_path / "a"
    rows = [{"n": i, "text": str(i) * 400} for i in range(10_000)]
    if shape == "table":
        write_parquet(path, rows)
    else:
        texts = map(json.dumps, rows)
        if shape == "object":
            texts = (f'"{i}": {text}' for i, text in enumerate(texts))
        opening, between, closing = {"lines": ("", "\n", ""), "list": "[,]", "object": "{,}"}[shape]
        path.write_text(opening + between.join(texts) + closing)
    list(zip(range(3), read_records(path, refuse), strict=False))  # imports
    tracemalloc.start()
    assert sum(1 for _ in read_records(path, refuse)) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


# ---- tables ----


def write_parquet(path: Path, rows: list[dict]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=100)


MESSAGES = [
    {
        "n": 1,
        "score": None,
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "loss": False}],
    },
    {"messages": [], "score": 0.5},
]


def test_parquet_rows_are_the_records_they_were_made_of(tmp_path):
    write_parquet(tmp_path / "a.parquet", MESSAGES)
    found = list(read_records(tmp_path / "a.parquet", refuse))
    assert [record.value for _, record in found] == [  # without the nulls for what the first message lacks
        {"n": 1, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "loss": False}]},
        {"messages": [], "score": 0.5},
    ]
    assert [where for where, _ in found] == [f"{tmp_path}/a.parquet: record 1", f"{tmp_path}/a.parquet: record 2"]


def test_cells_that_json_has_no_place_for(tmp_path):
    import datetime
    import decimal

    day, price = datetime.date(2026, 1, 2), decimal.Decimal("1.50")
    rows = [
        {"n": 1.0, "day": day, "price": price, "raw": "é".encode()},
        {"n": float("nan")},
        {"n": 3.0, "raw": b"\xff"},
    ]
    write_parquet(tmp_path / "a", rows)
    assert read(tmp_path / "a") == (
        [("1", 1.0)],
        [("2", "not_json"), ("3", "not_json")],
    )
    (first, *_) = (record.value for _, record in read_records(tmp_path / "a", lambda bad: None))
    assert first == {"n": 1.0, "day": "2026-01-02", "price": "1.50", "raw": "é"}


def test_a_damaged_parquet_file_gives_its_rows_up_to_there(tmp_path):
    path = tmp_path / "a"
    write_parquet(path, [{"n": i, "text": random.Random(i).randbytes(200).hex()} for i in range(1000)])
    content = path.read_bytes()
    middle = len(content) // 2
    good, bad = read(path, content[:middle] + b"\xff" * 2000 + content[middle + 2000 :])
    assert [n for _, n in good] == list(range(len(good)))
    assert 0 < len(good) < 1000
    assert bad == [(str(len(good) + 1), "broken_file")]
    with pytest.raises(RequestError, match=r"a Parquet file that cannot be read .*\n.*was it cut"):
        read(path, content[:middle])


def test_datasets_directories(tmp_path, capsys):
    import datasets

    rows = datasets.Dataset.from_list(MESSAGES)
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "two")
    assert sources.datasets_in(tmp_path / "one") == [tmp_path / "one"]
    assert sources.datasets_in(tmp_path / "two") == [tmp_path / "two" / "test", tmp_path / "two" / "train"]
    assert [str(found.relative_to(tmp_path)) for found in sources.datasets_in(tmp_path)] == [
        "one",
        "two/test",
        "two/train",
    ]
    assert [record.value for _, record in read_records(tmp_path / "one", refuse)] == [
        {key: value for key, value in row.items() if value is not None} for row in MESSAGES
    ]
    assert [path.name for path in sources.files(tmp_path / "one")] == [
        "data-00000-of-00001.arrow",
        "dataset_info.json",
        "state.json",
    ]
    (tmp_path / "one" / "data-00000-of-00001.arrow").write_bytes(b"nothing")
    with pytest.raises(RequestError, match=r"one: a dataset that cannot be read .*\nWrite it again"):
        read(tmp_path / "one")


def test_a_first_line_that_holds_objects_alone_is_a_row_among_rows(tmp_path):
    lines = b'{"messages": {"role": "user"}}\n{"n": 1}\n{"n": 2}\n'
    good, bad = read(tmp_path / "a.jsonl", lines)
    assert good == [("1", {"messages": {"role": "user"}}), ("2", 1), ("3", 2)]
    assert bad == []
    assert read(tmp_path / "b.json", b'{"7": {"n": 1}, "8": {"n": 2}}\n')[0] == [("1", 1), ("2", 2)]


def test_an_id_that_is_no_text_is_a_bad_row(tmp_path):
    content = b'{"a\xff": {"n": 1}, "b\\ud800": {"n": 2}, "c": {"n": 3}}'
    assert read(tmp_path / "a.json", content) == ([("3", 3)], [("1", "not_json"), ("2", "not_json")])


def test_records_of_one_line_are_told_by_number(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"a": 2}, 3, {"a": 4}, {"a"\n')
    bad: list[str] = []
    assert [where for where, _ in read_records(path, lambda row: bad.append(row.where))] == [
        f"{path}: record 1", f"{path}: record 2", f"{path}: record 4",
    ]  # fmt: skip
    assert bad == [f"{path}: record 3", f"{path}: record 5"]


def test_what_python_itself_cannot_read_is_told_in_the_words_of_json(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": ' + "9" * 5000 + "}\n" + "[" * 100_000 + "\n")
    bad: list[str] = []
    assert len(list(read_objects(path, lambda row: bad.append(row.problem)))) == 1
    assert bad[0].startswith("not valid JSON: 99999999999999999999 is too large a number\n")
    assert bad[1].startswith("not valid JSON: nested too deeply\n")


# ---- objects that are a record, or hold records beside others ----


def packed_in(tmp_path: Path, name: str, files: dict[str, bytes]) -> Path:
    """An archive of these files, of the kind that its name says."""
    path = tmp_path / name
    if path.suffix in (".zip", ".eval"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in files.items():
                archive.writestr(member, content)
        return path
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for member, content in files.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    content = tar.getvalue()
    content = gzip.compress(content) if name.endswith(".gz") else content
    path.write_bytes(pyarrow.compress(content, "zstd", asbytes=True) if name.endswith(".zst") else content)
    return path


def values_of(path: Path) -> list[tuple[str, str | None, dict]]:
    found = []
    for where, record in read_records(path, refuse):
        assert record.path is not None
        found.append((where.removeprefix(str(path.parent)).lstrip("/"), record.key, record.value))
    return found


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "value",
    [
        {"info": {"resolved": True}, "messages": [{"role": "user", "content": "a"}]},  # the object comes first
        {"info": {"a": 1}, "trajectory_format": "x", "messages": []},
        {"request": {"a": 1}, "response": {"b": 2}},
        {"data": [{"role": "user", "content": "a"}], "ok": True},  # messages are no records
        {"results": {"total": 7}, "steps": [{"a": 1}]},
        {"data": [1, 2]},
        {"n": 1},
    ],
)
def test_an_object_that_is_a_record_is_one(tmp_path, value, indent):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value, indent=indent))
    assert values_of(path) == [("a.json:1", None, value)]


@pytest.mark.parametrize("indent", [None, 1])
def test_records_under_a_containers_key_come_with_what_stands_before_them(tmp_path, indent):
    path = tmp_path / "a.json"
    whole = {"eval": {"task": "t"}, "results": {"total": 2}, "data": [7], "samples": [{"n": 1}, {"n": 2}], "end": 0}
    path.write_text(json.dumps(whole, indent=indent))
    found = list(read_records(path, refuse))
    assert [record.value for _, record in found] == [{"n": 1}, {"n": 2}]
    assert all(record.outer == {"eval": {"task": "t"}, "results": {"total": 2}, "data": [7]} for _, record in found)
    path.write_text(json.dumps({"train": [{"n": 1}], "dev": {"x": {"n": 2}}, "test": []}, indent=indent))
    assert [(key, value) for _, key, value in values_of(path)] == [(None, {"n": 1}), ("x", {"n": 2})]


@pytest.mark.parametrize("in_lines", [True, False])
def test_what_is_wrong_with_a_record_by_id_in_a_container_is_not_the_others(tmp_path, in_lines):
    path = tmp_path / "a.json"
    bad = b'"b": {"n": "\xff"},\n"c": {"n": NaN},\n"a": {"n": 4}'
    outer = b'{"info": {"n": 0},\n"samples": {\n"a": {"n": 1},\n' + bad + b'}, "end": 1}'
    path.write_bytes(outer if in_lines else outer.replace(b"\n", b""))
    rows = []
    found = [(where, record.key, record.value) for where, record in read_records(path, rows.append)]
    assert [(key, value) for _, key, value in found] == [("a", {"n": 1}), ("a", {"n": 4})]
    assert [row.reason for row in rows] == ["not_json", "not_json"]
    assert "byte 0xff" in rows[0].problem
    assert "NaN is not a JSON value" in rows[1].problem
    places = [f"{path}:3", f"{path}:6"] if in_lines else [f"{path}: record 1", f"{path}: record 4"]
    assert [where for where, _, _ in found] == places


def test_rows_that_look_like_containers_are_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"data": [{"n": 1}]}\n{"data": [{"n": 2}]}\n')
    assert [value for _, _, value in values_of(path)] == [{"data": [{"n": 1}]}, {"data": [{"n": 2}]}]


def test_a_container_that_is_cut_gives_what_came_before(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"v": 1,\n"samples": [{"n": 1},\n{"n": 2},\n{"n": ')
    bad: list[BadRow] = []
    assert [record.value for _, record in read_records(path, bad.append)] == [{"n": 1}, {"n": 2}]
    assert [(row.reason, row.where) for row in bad] == [("broken_file", f"{path}:4")]


# ---- archives ----


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.zst"])
def test_members_of_an_archive_are_files_below_its_path(tmp_path, name):
    path = packed_in(tmp_path, name, {"b/c.jsonl": b'{"n": 1}\n{"n": 2}\n', "a.json.gz": gzip.compress(b'[{"n": 3}]')})
    members = archives.members(path)
    assert members == [path / "a.json.gz", path / "b/c.jsonl"]
    assert [value for member in members for _, _, value in values_of(member)] == [{"n": 3}, {"n": 1}, {"n": 2}]
    assert [where for where, _, _ in values_of(members[1])] == ["c.jsonl:1", "c.jsonl:2"]
    assert archives.is_file(members[0])
    assert not archives.is_file(path / "none")
    assert content_hash(members[1]) == hashlib.sha256(b'{"n": 1}\n{"n": 2}\n').hexdigest()
    with pytest.raises(RequestError, match=r"none: cannot be read: there is no such member"):
        list(read_records(path / "none", refuse))


def test_a_member_packed_by_zstandard_inside_a_zip(tmp_path):
    """As newer versions of Inspect write them; Python's zipfile reads none before 3.14."""
    content = b'{"n": 1}\n'
    packed = pyarrow.compress(content, "zstd", asbytes=True)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("m.json", packed)
    raw = path.read_bytes()
    raw = raw.replace(b"PK\x03\x04\x14\x00\x00\x00\x00\x00", b"PK\x03\x04\x14\x00\x00\x00\x5d\x00")
    at = raw.index(b"PK\x01\x02")
    path.write_bytes(raw[: at + 10] + b"\x5d\x00" + raw[at + 12 :])
    assert [value for _, _, value in values_of(path / "m.json")] == [{"n": 1}]


def test_an_inspect_log_gives_its_samples_in_order_with_its_header(tmp_path):
    files = {f"samples/{n}_epoch_1.json": json.dumps({"id": n}).encode() for n in (10, 9, 1)}
    path = packed_in(tmp_path, "a.eval", {**files, "header.json": b'{"status": "success"}', "summaries.json": b"[]"})
    found = list(read_records(path, refuse))
    assert [record.value["id"] for _, record in found] == [1, 9, 10]
    assert {record.outer["status"] for _, record in found} == {"success"}
    assert found[0][0] == f"{path}/samples/1_epoch_1.json:1"


def test_zstandard_is_read_and_a_cut_one_up_to_there(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    whole = pyarrow.compress(
        "".join(f'{{"n": "{random.Random(n).randbytes(300).hex()}"}}\n' for n in range(3000)).encode(),
        "zstd",
        asbytes=True,
    )
    path.write_bytes(whole)
    assert len(values_of(path)) == 3000
    path.write_bytes(whole[: len(whole) // 2])
    bad: list[BadRow] = []
    assert 0 < len(list(read_records(path, bad.append))) < 3000
    assert [row.reason for row in bad] == ["broken_file"]
