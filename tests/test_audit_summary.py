import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from nat.auditing.findings import FileRead, Finding, Lengths
from nat.auditing.summary import LINES, share, size, sparkline, summary, verdict
from nat.auditing.visible import visible
from nat.quality.marks import Severity
from tests.golden_for_tests import golden
from tests.sample_audits_for_tests import EMPTY, HOSTILE, TYPICAL, hostile


def test_a_typical_audit_fits_on_one_screen():
    shown = summary(TYPICAL, 100).plain + "\n"
    assert shown == golden("audit_screen.txt", shown)
    assert len(shown.splitlines()) <= LINES


@pytest.mark.parametrize("width", [40, 60, 100, 220])
@pytest.mark.parametrize(
    "audit", [TYPICAL, EMPTY, hostile("例" * 300), hostile(HOSTILE)], ids=["typical", "empty", "wide", "hostile"]
)
def test_no_line_is_wider_than_the_terminal(audit, width):
    lines = summary(audit, width).plain.splitlines()
    assert max(map(cell_len, lines)) <= width


def test_colour_only_repeats_what_words_say():
    files = [io.StringIO(), io.StringIO()]
    Console(file=files[0], width=100, highlight=False).print(summary(TYPICAL, 100), soft_wrap=True)
    Console(file=files[1], width=100, highlight=False, force_terminal=True).print(summary(TYPICAL, 100), soft_wrap=True)
    plain, coloured = (file.getvalue() for file in files)
    assert plain == summary(TYPICAL, 100).plain + "\n"
    assert "\x1b[1;31m" in coloured


def test_nothing_from_a_file_reaches_the_terminal_as_a_command():
    shown = summary(hostile(HOSTILE), 200).plain
    assert not set(shown) & {"\x1b", "\0", "\u202e", "\r"}
    assert "⟨U+001B⟩[31m⟨U+0000⟩" in shown
    assert visible("a\tb\r\n\ud800\u200d") == "a\tb⟨U+000D⟩\n⟨U+D800⟩\u200d"


def test_an_interrupted_audit_says_so_first_and_in_its_verdict():
    partial = replace(TYPICAL, is_partial=True)
    lines = summary(partial, 100).plain.splitlines()
    assert lines[0] == "INTERRUPTED: only what was read until then is counted here"
    assert lines[-3] == "written        outputs/audit: dropped.jsonl, audit.html, audit.json (no clean.jsonl)"
    assert [verdict(audit).tone for audit in (partial, replace(TYPICAL, findings=(), is_partial=True))] == [
        "error",
        "warning",
    ]


def finding(name: str, severity: Severity, count: int) -> Finding:
    return Finding(name, severity, count, 10, "trajectories", "", "")


ALL_THREE = replace(
    TYPICAL,
    findings=(finding("leak", "error", 3), finding("secret", "warning", 1), finding("mail", "note", 1)),
    n_dropped={},
)
AUDITS = {
    "error": ALL_THREE,
    "error in part dropped": replace(ALL_THREE, n_dropped={"leak": 2}),
    "warning": replace(ALL_THREE, n_dropped={"leak": 3}),
    "clean": replace(ALL_THREE, n_dropped={"leak": 3, "secret": 1}),
    "two errors": TYPICAL,
    "interrupted": replace(TYPICAL, is_partial=True),
    "interrupted, clean": replace(TYPICAL, findings=(), is_partial=True),
    "interrupted, nothing found": EMPTY,
    "nothing to train on": replace(EMPTY, is_partial=False),
}


def test_the_verdict_is_that_of_the_worst_finding_that_no_rule_dealt_with():
    assert [verdict(audit).tone for audit in list(AUDITS.values())[:4]] == ["error", "error", "warning", "clean"]


def test_verdicts_in_words():
    text = "".join(f"{name}: {verdict(audit).text}\n" for name, audit in AUDITS.items())
    assert text == golden("audit_verdicts.txt", text)


def test_what_does_not_fit_is_counted():
    files = tuple(FileRead(f"f{n}.jsonl", "nat", 10, 100, 99, 1) for n in range(9))
    findings = tuple(Finding(f"finding_{n}", "warning", 1, 2, "rows", "It is so.", "Mend it.") for n in range(30))
    shown = summary(replace(TYPICAL, files=files, findings=findings), 100).plain
    assert "  and 6 more files (600 rows, 6 bad), see audit.html" in shown
    assert shown.count("→ Mend it.") == 4  # a fifth would make 46 lines
    assert "  and 26 more (26 warnings), see audit.html: finding_4 1, finding_5 1" in shown
    assert len(shown.splitlines()) <= LINES


def test_figures():
    assert [share(0, 5), share(5, 5), share(1, 3), share(1, 99999), share(99999, 100000), share(0, 0)] == [
        "0%", "100%", "33.3%", "<0.1%", ">99.9%", "-",
    ]  # fmt: skip
    assert [size(999), size(1500), size(150_000), size(2_100_000_000)] == ["999 bytes", "1.5 kB", "150 kB", "2.1 GB"]
    assert sparkline(Lengths("turns", 30, 1, 1, 1, (0, 1, 2, 3), (0, 29, 1))) == " █▁"
    assert len(sparkline(Lengths("turns", 100, 1, 1, 1, tuple(range(101)), (1,) * 100))) == 20
