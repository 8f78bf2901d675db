import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from nat.auditing.findings import FileRead, Finding, Lengths
from nat.auditing.summary import LINES, share, size, sparkline, summary, verdict
from nat.auditing.visible import visible
from tests.sample_audits_for_tests import EMPTY, HOSTILE, TYPICAL, hostile

SCREEN = """\
nat audit  3 files, 6,000 rows, 13.9 MB, 12 s
  file                                       format      rows   bad rows
  data/hotpotqa/react_gpt-4_positives.jsonl  react      3,000          4
  data/hotpotqa/react_llama-2-7b_text.json   react      2,500         11
  data/strategyqa/sample_negative.json       nat          500         20

trajectories   5,965: 3,996 successes (67%), 1,969 failures (33%)
questions      3,104: 1,100 with both, 1,400 with successes only, 604 with failures only; at most 12
               trajectories on one
sources        gpt-4 2,996 (99.8% success), llama-2-7b 2,489 (28.4% success), (none) 480 (62.5%
               success)
failures       wrong_answer 1,200, abstained 400, unparsed_action 250, out_of_turns 119

lengths        class       number  median     p90  longest  limit 2,048 tokens, 1,500 sampled
  tokens       success      1,000     412     890    2,210  ▂█▄▁▁
               failure        500     731   1,620    4,011  ▁▅█▅▁
  characters   success      3,996   1,650   3,600    9,000  ▄█▅▁
               failure      1,969   2,900   6,500   16,044  ▁▅█▂
  turns        success      3,996       3       5        9  ▁▄█▅▁
               failure      1,969       5       8       11  ▁▂▄█▆

findings       2 errors, 4 warnings, 3 notes
  ERROR    label_leak  2,990 of 5,965 trajectories (50.1%)
           In 2990 trajectories, an observation that the model sees says how the episode ended
           ("reward = True").
           → Drop the last observation (quality.label_in_text=drop), or the model learns to read the
           label.
  ERROR    evaluation_overlap  41 of 3,104 questions (1.3%)
           41 questions also stand in data/hotpotqa/dev_questions.json, 12 of them under another id.
           → Keep them out of training: quality.evaluation_overlap=drop.
  WARNING  skew  2 of 4 features (50%)
           Source alone tells successes from failures with an AUC of 0.91, the number of turns with
           0.74.
           → Balance the sources, or train with source as a condition, before believing a
           difference.
  WARNING  exact_duplicates  120 of 5,965 trajectories (2%), all left out by rule
           120 trajectories repeat another one word for word.
           → One copy of each is kept: quality.exact_duplicates.
  and 5 more (2 warnings, 3 notes), see audit.html: bad_rows 35, secret 3, unparsed_action 250,
  repeated_questions 1,900, email_address 9

left out       35 bad rows (empty_conversation 20, no_agent_turn 11, not_json 4); 123 by rule
               (exact_duplicates 120, secret 3)
written        outputs/audit: clean.jsonl (5,842 rows), dropped.jsonl, audit.html, audit.json
verdict        NOT READY: 2 errors (label_leak, evaluation_overlap). Put them right first.
"""


def test_a_typical_audit_fits_on_one_screen():
    assert summary(TYPICAL, 100).plain + "\n" == SCREEN
    assert len(SCREEN.splitlines()) <= LINES


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
    assert plain == SCREEN
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
    assert verdict(partial).text.startswith("INTERRUPTED, so of the rows read until then only: NOT READY: 2 errors")
    assert verdict(EMPTY).text.endswith("nothing was found yet.")
    assert verdict(replace(EMPTY, is_partial=False)).text == "NOTHING TO TRAIN ON: no trajectory is left."
    assert verdict(replace(TYPICAL, findings=(), is_partial=True)).tone == "warning"


def test_the_verdict_is_that_of_the_worst_finding_that_no_rule_dealt_with():
    def finding(name, severity, count):
        return Finding(name, severity, count, 10, "trajectories", "", "")

    leak, secret, note = finding("leak", "error", 3), finding("secret", "warning", 1), finding("mail", "note", 1)
    all_three = replace(TYPICAL, findings=(leak, secret, note), n_dropped={})
    assert verdict(all_three) == ("error", "NOT READY: 1 error (leak). Put it right first.")
    assert verdict(replace(all_three, n_dropped={"leak": 2})).tone == "error"
    without_leak = replace(all_three, n_dropped={"leak": 3})
    assert verdict(without_leak) == ("warning", "USABLE WITH CARE: no error, 1 warning (secret).")
    clean = replace(all_three, n_dropped={"leak": 3, "secret": 1})
    assert verdict(clean) == ("clean", "READY: nothing is left to put right.")


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
