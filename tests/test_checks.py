"""What is wrong inside one trajectory: each check fires, stays silent on what only looks alike, and on real data."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat.agents.actions import Action, parse_action
from nat.agents.kinds import plain_action
from nat.core.paths import PACKAGE
from nat.examples.strategy import shipped_conditioning_texts
from nat.quality.check_labels import tells_label
from nat.quality.check_observations import _slip
from nat.quality.checks import CHECKS, check, in_order
from nat.quality.marks import Check, CheckSettings, Mark
from nat.trajectories.formats import gsm8k_solutions, nat_paper, react
from nat.trajectories.formats.conversations import read_conversations
from nat.trajectories.formats.episodes import TOOLS
from nat.types import Failure, Message, Outcome, Trajectory
from tests.audits_for_tests import row, write_rows

SETTINGS = CheckSettings(tools=("search", "lookup", "calculate"), conditioning_texts=shipped_conditioning_texts())


def agent(text: str, *calls: dict) -> Message:
    return Message("assistant", text, tool_calls=calls)


def tool(text: str) -> Message:
    return Message("tool", text)


def user(text: str) -> Message:
    return Message("user", text)


def episode(
    *messages: Message,
    question: str = "Who made it?",
    prediction: str | None = None,
    failure: Failure | None = "wrong_answer",
    reference: str | None = None,
) -> Trajectory:
    outcome = Outcome(failure is None, float(failure is None), failure, prediction, reference)
    return Trajectory("e", "q", question, messages, outcome)


SEARCH = agent("Thought: Look.\nAction: search[it]")
SEEN = tool("It was made by Ann.")
FINISH = agent("Thought: So.\nAction: finish[Ann]")


def found(trajectory: Trajectory) -> list[tuple[str, int | None]]:
    return [(mark.name, mark.message) for mark in check(trajectory, SETTINGS)]


def only(name: str, trajectory: Trajectory) -> list[Mark]:
    return [mark for mark in check(trajectory, SETTINGS) if mark.name == name]


def names_in(text: str) -> set[str]:
    """What is found in an observation with this text."""
    return {mark.name for mark in check(episode(SEARCH, tool(text), FINISH), SETTINGS)}


def test_a_clean_episode_has_no_marks():
    assert found(episode(SEARCH, SEEN, FINISH)) == []


def test_every_check_says_what_it_found_and_what_to_do():
    assert list(CHECKS) == [
        *("empty_turn", "ends_on_user_turn", "unfinished", "unparsed_action", "observation_error", "calculator_slip"),
        *("mixed_languages", "secret", "email_address", "conditioning_words", "label_in_text", "odd_characters"),
    ]
    for info in CHECKS.values():
        assert info.says.endswith(".") and info.remedy.endswith((".", ")"))


def named(name: str, place: int) -> Check:
    return Check(name, place, "note", "places", "A text is there.", "Look at it.", lambda view: (), "count")


def test_checks_are_ordered_by_place_then_name():
    assert list(in_order([named("c", 5), named("b", 5), named("a", 7)])) == ["b", "c", "a"]


def test_two_checks_of_one_name_and_names_that_are_no_keys_are_refused():
    with pytest.raises(ValueError, match="two checks in nat/quality/ are called 'a'"):
        in_order([named("a", 1), named("a", 2)])
    for name in ("odd characters", "class", ""):
        with pytest.raises(ValueError, match=f"called '{name}'; take letters"):
            in_order([named(name, 1)])


SHOUTING = """\
from nat.quality.marks import Check, Mark

def _scratch(view):
    for i, message in enumerate(view.trajectory.messages):
        if len(message.content) > 3 and message.content.isupper():
            yield Mark("scratch_check", i, 0, len(message.content), message.content[:20])

CHECKS = (
    Check(
        name="scratch_check", place=35, severity="error", unit="messages", says="A text is in capitals.",
        remedy="Ask quietly.", find=_scratch, rule="count",
    ),
)
"""
IN_THE_PACKAGE = """\
import sys
import nat.quality
nat.quality.__path__.append(sys.argv[1])
from nat import cli
sys.exit(cli.run(sys.argv[2:]))
"""


def test_a_check_exists_by_standing_in_the_folder(tmp_path):
    """Its finding and its rule follow; the rule is off, and out of a cell's hash, until someone switches it on."""
    (tmp_path / "added").mkdir()
    (tmp_path / "added" / "check_scratch.py").write_text(SHOUTING)
    rows = [row("loud", "How many?", "7"), row("calm", "How much?", "8")]
    rows[0]["messages"][1]["content"] = "SEVEN OF THEM"
    write_rows(tmp_path / "rows.jsonl", rows)

    def nat(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", IN_THE_PACKAGE, str(tmp_path / "added"), *arguments]
        environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)

    ran = nat("audit", "rows.jsonl", "audit.output=audit", "audit.token_sample=0", "evaluation=none")
    assert ran.returncode == 0, ran.stderr
    audit = json.loads((tmp_path / "audit" / "audit.json").read_text())
    (finding,) = (finding for finding in audit["findings"] if finding["name"] == "scratch_check")
    assert (finding["severity"], finding["count"], finding["of"], finding["unit"]) == ("error", 1, 6, "messages")
    assert finding["says"] == "A text is in capitals. In 1 successes and 0 failures."
    assert [(one["id"], one["message"], one["span"]) for one in finding["sightings"]] == [("loud", 1, [0, 13])]
    assert audit["dropped"] == {} and audit["settings"]["quality"]["scratch_check"] is False

    ran = nat(
        "audit",
        "rows.jsonl",
        "audit.output=audit",
        "audit.token_sample=0",
        "evaluation=none",
        "+quality.scratch_check=true",
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["dropped"] == {"scratch_check": 1}
    assert [json.loads(line)["id"] for line in (tmp_path / "audit" / "clean.jsonl").open()] == ["calm"]

    ran = nat("audit", "rows.jsonl", "quality.scratch_check=true")
    assert ran.returncode == 2 and "quality.scratch_check: the chosen option of 'quality' does not name" in ran.stderr
    assert "+quality.scratch_check=VALUE" in ran.stderr
    ran = nat("audit", "rows.jsonl", "+quality.scratch_chek=true")
    assert ran.returncode == 2 and "did you mean 'scratch_check'?" in ran.stderr
    ran = nat("audit", "rows.jsonl", "+quality.scratch_check=0")
    assert ran.returncode == 2 and "quality.scratch_check: 0: it must be false (keep), true (drop)" in ran.stderr


# ---- turns ----


def test_a_turn_without_text_is_empty_unless_it_calls_a_tool():
    call = {"type": "function", "function": {"name": "search", "arguments": "{}"}}
    assert found(episode(SEARCH, SEEN, agent(" \n"))) == [("empty_turn", 2), ("unfinished", None)]
    assert found(episode(agent("", call), SEEN, agent("Ann made it."))) == []


def test_an_episode_that_ends_with_the_user():
    assert ("ends_on_user_turn", 3) in found(episode(SEARCH, SEEN, FINISH, user("Are you sure?")))
    assert found(episode(SEARCH, SEEN, FINISH, user("Observation: Thank you."))) == []
    assert found(episode(SEARCH, SEEN, FINISH, tool("Thank you."))) == []


@pytest.mark.parametrize(
    ("messages", "is_unfinished"),
    [
        ([SEARCH, SEEN], True),
        ([], True),
        ([agent("Action: search[a]\nObservation: b\nAction: finish[b]")], False),
        ([agent("2 + 3 = 5.\nAnswer: 5")], False),
        ([agent("So the answer is 5.")], False),
        ([agent("2 + 3 = 5, and then")], True),
        ([agent("", {"function": {"name": "search"}})], True),
        ([agent("", {"function": {"name": "finish"}})], False),
    ],
)
def test_an_episode_without_an_answer_is_unfinished(messages, is_unfinished):
    assert bool(only("unfinished", episode(*messages, reference="5"))) == is_unfinished
    assert only("unfinished", episode(*messages, failure="abstained")) == []
    assert only("unfinished", episode(*messages, prediction="5")) == []


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        ("Thought: I do not know.", "no_action"),
        ("Action: look it up", "no_call"),
        ("Action: calculate(2 + 2)", "wrong_brackets"),
        ("Action: search[it", "open_bracket"),
        ("Action: fly[home]", "unknown_tool"),
    ],
)
def test_a_react_turn_without_a_readable_action(turn, kind):
    trajectory = episode(SEARCH, SEEN, agent(turn), tool("Error: no"), FINISH)
    assert [(m.message, m.end, m.detail) for m in only("unparsed_action", trajectory)] == [(2, len(turn), kind)]


def test_a_tool_that_did_its_work_exists():
    fly = agent("Action: fly[home]")
    assert only("unparsed_action", episode(fly, tool("You are home."), fly, tool("Again."), FINISH)) == []
    refused = episode(fly, tool("('fly', 'home') generated an exception: Unknown tool name: fly"), FINISH)
    assert found(refused) == [("unparsed_action", 0), ("observation_error", 1)]


def test_unfinished_says_where_the_episode_stops():
    assert [mark.detail for mark in only("unfinished", episode(SEARCH, SEEN))] == [
        "no final answer in 1 agent turns; ends on an observation"
    ]
    assert [mark.detail for mark in only("unfinished", episode(SEARCH))] == ["no final answer in 1 agent turns"]


def test_chains_of_thought_and_tool_calls_need_no_action():
    assert found(episode(agent("The next action: add. 2 + 3 = 5.\nAnswer: 5"))) == []
    assert found(episode(user("And now?"), agent("Well."), user("Come on."), agent("The answer is 5."))) == []
    due = episode(agent("I do not know."), reference="Ann")
    assert found(due) == [("unfinished", None), ("unparsed_action", 0)]
    # Cut before its first action: by its beginning it was meant as a ReAct turn.
    assert only("unparsed_action", episode(agent("Thought: First, the")))[0].detail == "no_action"


def test_plain_turns_are_read_as_parse_action_reads_them():
    tools = ("search", "Lookup")
    assert plain_action("Thought: So.\nAction: finish[ Ann ]", tools) == Action("finish", "Ann")
    for turn in (
        "",
        "Action: search[a]",
        "T\nAction: search[a].",
        "T\nAction: search[a[1]]",
        "T\nAction: search[a\nb]",
        "T\nAction: Search[a]",
        "T\nAction: Lookup[a]",
        "T\nAction: fly[a]",
        "My action: search[b]\nAction: finish[a]",
    ):
        assert plain_action(turn, tools) is None


# ---- observations ----


@pytest.mark.parametrize(
    "text",
    [
        "Error: there is no tool 'fly'; use one of finish, search",
        "Observation 2: Error: division by zero",
        "Invalid Action. Valid Actions are Lookup[] and Search[].",
        "Could not find [Anne Lea]. Similar: ['Ann Lee'].",
        "HTTP 503: try again",
        "404 Client Error: Not Found for url: https://x.y",
        "429 Too Many Requests",
        "requests.exceptions.ConnectionError: no route",
        "ZeroDivisionError: division by zero",
        'Running.\nTraceback (most recent call last):\n  File "a.py", line 1',
        "Rate limit exceeded, wait 20 s",
        "The request timed out.",
        "Timeout",
        '{"error": "not found"}',
        "('click', 'Frigg') generated an exception: Unknown tool name: click",
    ],
)
def test_observations_that_report_an_error(text):
    assert "observation_error" in names_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "Errors and Residuals is a term of statistics.",
        "Error analysis studies errors.",
        "Trial and Error is a film. 404 is its runtime.",
        "#1: HTTP 404 is a status code. Could not find it? Invalid action.",
        "404 BC: Athens surrenders.",
        "500 Miles is a song.",
        "The show Timed Out ran for two years; its network rate limit was low.",
        "The old clock timed out his days.",
        "Timeout is a magazine of London, and also a film by a director who made others about that city since 1990.",
        "None",
        "503",
    ],
)
def test_observations_about_errors(text):
    assert "observation_error" not in names_in(text)


def test_what_the_agent_says_about_errors_is_no_observation():
    assert found(episode(agent("Error: I was wrong.\nAction: finish[Ann]"))) == []


@pytest.mark.parametrize(
    ("expression", "observed", "value"),
    [
        ("16-3", "12", "13"),
        ("2*3.5", "70", "7"),
        ("35*(1/2)", "17.0", "17.5"),
        ("400/(40/100)", "80", "1000"),
        ("1,050+50", "$1,200", "1100"),
    ],
)
def test_a_calculator_slip_names_the_value(expression, observed, value):
    trajectory = episode(agent(f"Thought: So.\nAction: calculate[{expression}]"), tool(observed), FINISH)
    mark = Mark("calculator_slip", 1, 0, len(observed), f"{expression} is {value}, not {observed}")
    assert only("calculator_slip", trajectory) == [mark]


@pytest.mark.parametrize(
    ("expression", "observed"),
    [
        ("16-3", "13"),
        ("16-3", "13.00"),
        ("10/3", "3.33"),
        ("10/3", "3"),
        ("20/3", "6.666666666666667"),
        ("50-49.4", "0.6000000000000014"),
        ("600*2", "1,200"),
        ("600*2", "$1200."),
        ("1/4*100", "25%"),
        ("1/4", "25%"),
        ("3*x", "12"),  # cannot be worked out
        ("1/0", "Error: division by zero"),
        ("2:15+2:38", "4:53"),
        ("10**400", "7"),
        ("", "-"),
    ],
)
def test_values_that_are_right_or_cannot_be_judged(expression, observed):
    assert _slip(expression, observed) is None


# ---- scripts ----

RUSSIAN = "\u041e\u0431\u0430 \u0438\u043c\u0435\u043d\u0438 \u0441\u043e\u0432\u043f\u0430\u0434\u0430\u044e\u0442"
CHINESE = "\u4e24\u4e2a\u540d\u5b57\u4e00\u81f4\u6240\u4ee5\u7b54\u6848\u662f\u5b89\u5a1c"


@pytest.mark.parametrize(
    ("question", "thought", "input", "detail"),
    [
        ("Who made it?", RUSSIAN, "Ann", "17 of 17 letters are not Latin, most of them Cyrillic"),
        ("Who made it?", f"So {CHINESE}", "Ann", "13 of 15 letters are not Latin, most of them Chinese or Japanese"),
        (
            f"{CHINESE}?",
            "Both names agree, so this is it",
            "x",
            "24 of 24 letters are not Chinese or Japanese, most of them Latin",
        ),
        ("Who made it?", f"The maker's own name ({RUSSIAN}) is given", "Ann", None),
        ("Who made it?", f'The film "{RUSSIAN}" is the one', "Ann", None),
        ("Who made it?", "So it is", RUSSIAN, None),
        ("Who made it?", "The angle \u03b1 is twice \u03b2, so \u03b1 = 2\u03b2", "Ann", None),
        ("Who made it?", "It is \u5b89\u5a1c", "Ann", None),
        ("Who made it?", "Zo\u00eb made it in \u0141\u00f3d\u017a, \u015awi\u0119tokrzyskie", "Ann", None),
        (f"{RUSSIAN}?", RUSSIAN, "Ann Lee of New York City", None),
        ("2 + 2 = ?", RUSSIAN, "4", None),
    ],
)
def test_turns_in_another_script_than_the_question(question, thought, input, detail):
    trajectory = episode(agent(f"Thought: {thought}\nAction: finish[{input}]"), question=question)
    assert [mark.detail for mark in only("mixed_languages", trajectory)] == ([] if detail is None else [detail])


def test_observations_in_another_script_are_as_they_are():
    assert found(episode(SEARCH, tool(RUSSIAN), FINISH)) == []


# ---- texts that should not be there ----

# Secrets are put together from parts, so that no scanner finds one in this file.
KEY = "aB3dE6gH9jK2mN5pQ8sT"  # 20 characters


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("sk-" + KEY + KEY, "an API key (sk-...)"),
        ("sk-" + "proj-" + KEY, "an API key (sk-...)"),
        ("ghp_" + KEY + KEY, "a GitHub token"),
        ("github_pat_" + KEY + KEY, "a GitHub token"),
        ("AKIA" + "IOSFODNN7EXAMPLE", "an AWS access key id"),
        ("AIza" + KEY + KEY[:15], "a Google API key"),
        ("hf_" + KEY + KEY[:14], "a Hugging Face token"),
        ("xoxb-" + KEY, "a Slack token"),
        ("-----BEGIN " + "RSA PRIVATE KEY-----", "a private key"),
        ("eyJ" + KEY + ".eyJ" + KEY + "." + KEY, "a JSON web token"),
        ("Authorization: Bearer " + KEY, "a bearer token"),
        ("postgres://ann:" + "hunter2@d", "a password in a URL"),
        ("https://x.org/?a=1&api_key=" + KEY, "a password or key in a URL"),
    ],
)
def test_secrets(text, kind):
    marks = only("secret", episode(SEARCH, tool(f"Use {text}"), FINISH))
    assert [mark.detail for mark in marks] == [kind]
    assert KEY not in str(marks[0])
    assert 4 <= marks[0].start < marks[0].end == len(f"Use {text}")


@pytest.mark.parametrize(
    "text",
    [
        "a risk-averse, task-oriented sk-learn user; sk-" + "x" * 48,
        "sk-" + "x0" * 20,
        "ASIA" + "NAMERICANSTUDIES",
        "the bearer of the standard; Bearer authentication-is-described-here",
        "hf_" + "transfer, ghp_" + "x" * 36,
        "https://x.org/a:b/c@d?token=<your token>&password=password",
        "-----BEGIN " + "PUBLIC KEY-----",
        "postgres://user:password@host/db",
    ],
)
def test_words_that_look_like_secrets(text):
    assert "secret" not in names_in(text)


def test_secrets_in_tool_calls_and_questions():
    call = {"function": {"name": "get", "arguments": '{"key": "hf_' + KEY + KEY[:14] + '"}'}}
    trajectory = episode(agent("", call), agent("Done."), question="Is ghp_" + KEY + KEY + " yours?")
    assert [(m.message, m.start, m.end, m.detail) for m in only("secret", trajectory)] == [
        (None, 3, 47, "a GitHub token"),
        (0, 0, 0, "a Hugging Face token in a tool call"),
    ]


def test_email_addresses():
    trajectory = episode(SEARCH, tool("Write to ann.lee+x@mail.uni-bonn.de."), FINISH)
    assert only("email_address", trajectory) == [Mark("email_address", 1, 9, 35, "at mail.uni-bonn.de")]
    for text in (
        "ann@example.com",
        "icon@2x.png",
        "git@github.com:a/b",
        "@ann",
        "a@b",
        "https://a:hunter2@db.org/",
        "5@6.7",
    ):
        assert "email_address" not in names_in(text), text


PLAIN = "Answer with Thought and Action steps that solve this correctly."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Correct] Who?", ["[Correct]"]),
        ("Solve this **incorrectly**.", ["**incorrectly**"]),
        (f"{PLAIN} Who?", [PLAIN]),
        ("Who? Write a bad solution.", ["Write a bad solution."]),
        ("[1] Who?", ["[1]"]),
        ("Was this solved correctly? [correctly] Write a good book.", []),
        ("Who is named in the list [1] of [A]?", []),
        ("[A]ndrea, who is she?", []),
    ],
)
def test_conditioning_words_in_a_question(text, words):
    assert [mark.detail for mark in only("conditioning_words", episode(FINISH, question=text))] == words


def test_footnotes_in_observations_are_no_conditioning_words():
    assert names_in("[1] A source. [B] Another. [Correct] is a tag.") == {"conditioning_words"}
    assert names_in("[1] A source. [B] Another.") == set()


def test_nothing_conditions_without_strategies():
    trajectory = episode(FINISH, question="[Correct] **correctly**")
    assert check(trajectory, CheckSettings(tools=(), conditioning_texts=())) == []


@pytest.mark.parametrize(
    "text",
    [
        "Episode finished, reward = True",
        "Answer is INCORRECT",
        "reward=0",
        "Reward: 1.0.",
        '{"is_correct": false}',
        "score: 0",
        "score = 1.0, well done",
    ],
)
def test_texts_that_tell_the_label(text):
    assert tells_label(text)
    early, late = tool(text), tool(text)
    marks = only("label_in_text", episode(SEARCH, early, FINISH, late))
    assert [mark.message for mark in marks] == [1, 3]
    assert marks[0].detail.endswith(" before the agent's last turn")
    assert marks[1].detail.endswith(" after the agent's last turn")
    (own,) = only("label_in_text", episode(agent(f"Thought: {text}\nAction: finish[Ann]")))
    assert own.detail.endswith(" in the agent's last turn")


@pytest.mark.parametrize(
    "text",
    [
        "The reward = 10 dollars; rewards: 1",
        "The final score: 1-0. Score: 0.5.1, score: 12, score: 1,5",
        "The answer is correct. An answer is INCORRECTLY given.",
        "Episode finished.",
        "a success: trueness",
        "highscore=1",
    ],
)
def test_texts_about_scores(text):
    assert not tells_label(text)
    assert "label_in_text" not in names_in(text)


def test_odd_characters_are_counted_by_text():
    trajectory = episode(SEARCH, tool("a\x00b\x00c\ufffd"), FINISH, question="\ufeffWho?")
    assert only("odd_characters", trajectory) == [
        Mark("odd_characters", None, 0, 1, "1 x U+FEFF"),
        Mark("odd_characters", 1, 1, 2, "2 x U+0000, 1 x U+FFFD"),
    ]
    assert names_in("tab\tline\r\nbreak \u200b \U0001f600 caf\u00e9 \u2028") == set()
    assert names_in("lone \ud800") == {"odd_characters"}


def test_hostile_texts_take_no_time():
    for text in ("a" * 300_000, "(" * 300_000, "a@" * 150_000, "eyJ" * 100_000, "://a:" * 60_000, " " * 300_000):
        check(episode(SEARCH, tool(text), agent(text), question="\u044f" + text), SETTINGS)


PIECES = st.sampled_from(
    [
        "\nAction: ",
        "search[",
        "calculate[1/3",
        "]",
        "Observation: ",
        "Thought: ",
        "Error: ",
        "0.3",
        "\x00",
        "\ud800",
        "a@b.de ",
        RUSSIAN,
        CHINESE,
        "[Correct] ",
        "**correctly**",
        "reward = True ",
        "hf_" + KEY + KEY,
        "://a:bcd@e",
        "\u0130",
        " ",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=8).map("".join)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), TEXTS), max_size=5))
def test_marks_point_into_their_texts_whatever_these_are(question, said):
    messages = [Message(role, text) for role, text in said]
    for mark in check(episode(*messages, question=question), SETTINGS):
        text = question if mark.message is None else messages[mark.message].content
        assert 0 <= mark.start <= mark.end <= len(text)
        if mark.name == "conditioning_words":
            assert mark.detail == text[mark.start : mark.end][:80]


def test_shipped_texts_are_those_of_the_strategies():
    texts = shipped_conditioning_texts()
    assert {"[Correct]", "[A]", "Write a bad solution."} <= set(texts)
    assert "" not in texts and texts == tuple(sorted(set(texts)))


# ---- real data ----


@pytest.fixture
def real(data):
    questions = nat_paper.read_questions(data / "strategyqa" / "sample_questions.jsonl", lambda bad: None)
    paths = {
        "gsm8k": gsm8k_solutions.read(data / "gsm8k" / "example_model_solutions.jsonl"),
        "gpt-3.5": read_conversations(react.conversations, data / "hotpotqa" / "react_gpt-3.5_messages.json"),
        "llama-2": read_conversations(react.conversations, data / "hotpotqa" / "react_llama-2-7b_text.json"),
        "gpt-4": read_conversations(react.conversations, data / "hotpotqa" / "react_gpt-4_positives.jsonl"),
        "strategyqa": chain(
            *(
                nat_paper.read(data / "strategyqa" / f"sample_{name}.json", "", lambda bad: None, questions=questions)
                for name in ("positive", "negative")
            )
        ),
    }
    return {name: [trajectory for _, trajectory in rows] for name, rows in paths.items()}


def test_counts_on_real_data(real):
    known = CheckSettings(tools=TOOLS, conditioning_texts=SETTINGS.conditioning_texts)
    marks = {name: [mark for t in rows for mark in check(t, known)] for name, rows in real.items()}
    assert {name: dict(Counter(mark.name for mark in of)) for name, of in marks.items()} == {
        # 11 solutions were cut by their token limit; 51 annotations of 40 solutions (0.8%) hold another value
        "gsm8k": {"unfinished": 11, "unparsed_action": 11, "calculator_slip": 51},
        "gpt-3.5": {"unparsed_action": 1, "observation_error": 1},  # click[...] is no tool
        "llama-2": {"unparsed_action": 27, "observation_error": 26},  # reflect[...] is none; an open bracket
        "gpt-4": {},
        "strategyqa": {"unfinished": 1},
    }
    slips = [mark.detail for mark in marks["gsm8k"] if mark.name == "calculator_slip"]
    assert {"25*3 is 75, not 7500", "9,300/30 is 310, not 275", "20-11 is 9, not 9.20"} <= set(slips)

    turns = [m.content for rows in real.values() for t in rows for m in t.messages if m.role == "assistant"]
    # What reads most turns faster reads them as `parse_action` does.
    plain = [(turn, action) for turn in turns if (action := plain_action(turn, TOOLS)) is not None]
    assert len(plain) > 0.8 * len(turns)
    assert all(parse_action(turn, TOOLS) == action for turn, action in plain)
