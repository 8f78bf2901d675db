"""Audits as literals, for tests of the terminal summary and of the page: a typical one, an empty one, a hostile one."""

from nat.auditing.findings import Audit, FileRead, Finding, Lengths, Shown, Sighting
from nat.core.rows.bad import DroppedRow
from nat.types import Message, Outcome, Trajectory

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    '&amp; "q" 🦜 \u202eאבג\x1b[31m\0'
)

GPT_4 = "data/hotpotqa/react_gpt-4_positives.jsonl"
LLAMA = "data/hotpotqa/react_llama-2-7b_text.json"
STRATEGY = "data/strategyqa/sample_negative.json"

LEAKED = Trajectory(
    id="hotpot-17-gpt-4",
    question_id="5a8b57f25542995d1e6f1371",
    question="Were Scott Derrickson and Ed Wood of the same nationality?",
    messages=(
        Message("assistant", "Thought: I look up both men.\nAction: Search[Scott Derrickson]"),
        Message("tool", "Observation: Scott Derrickson (born July 16, 1966) is an American director."),
        Message("assistant", "Thought: Now the other.\nAction: Search Ed Wood", train=False),
        Message("tool", "Observation: Invalid action. Valid actions are Search[], Lookup[] and Finish[]."),
        Message("assistant", "Thought: Both are American.\nAction: Finish[yes]"),
        Message("tool", "Observation: Episode finished, reward = True"),
    ),
    outcome=Outcome(True, 1.0, None, "yes", "yes"),
    source="gpt-4",
)
CALL = {"type": "function", "function": {"name": "search", "arguments": '{"query": "Kiss and Tell"}'}}
ABSTAINED = Trajectory(
    id="hotpot-23-llama-2-7b",
    question_id="5ab3b0bf5542992ade7c6e39",
    question="What government position was held by the woman who portrayed Corliss Archer?",
    messages=(
        Message("assistant", "Thought: I do not know.\nAction: Finish[unknown]", train=False, tool_calls=(CALL,)),
        Message("tool", "Observation: key sk-proj-abcd**** was printed here."),
    ),
    outcome=Outcome(False, 0.0, "abstained", "unknown", "Chief of Protocol"),
    source="llama-2-7b",
)
LEAK = Sighting(f"{GPT_4}:17", LEAKED.id, "Observation: Episode finished, reward = True", 5, (31, 44))
UNPARSED = Sighting(f"{GPT_4}:17", LEAKED.id, "Action: Search Ed Wood", 2, (24, 46))
SECRET = Sighting(f"{LLAMA}:23", ABSTAINED.id, "key sk-proj-abcd**** was printed", 1, (17, 33))
OVERLAP = Sighting(f"{LLAMA}:23", ABSTAINED.id, "What government position")

TOKENS = (0, 256, 512, 1024, 2048, 4096)
CHARACTERS = (0, 1000, 2000, 5000, 10000)
TURNS = (1, 2, 3, 4, 6, 12)

TYPICAL = Audit(
    files=(
        FileRead(GPT_4, "react", 8_204_112, 3000, 2996, 4),
        FileRead(LLAMA, "react", 5_120_000, 2500, 2489, 11),
        FileRead(STRATEGY, "nat", 612_345, 500, 480, 20),
    ),
    n_successes=3996,
    n_failures=1969,
    n_questions=3104,
    by_source={"gpt-4": (2990, 6), "llama-2-7b": (706, 1783), "": (300, 180)},
    by_failure={"wrong_answer": 1200, "abstained": 400, "unparsed_action": 250, "out_of_turns": 119},
    per_question={1: 1204, 2: 1500, 3: 267, 4: 100, 12: 33},
    questions_with={"successes_only": 1400, "failures_only": 604, "both": 1100},
    lengths={
        "tokens": {
            "success": Lengths("tokens", 1000, 412.0, 890.5, 2210.0, TOKENS, (90, 610, 240, 59, 1)),
            "failure": Lengths("tokens", 500, 731.0, 1620.0, 4011.0, TOKENS, (20, 130, 210, 120, 20)),
        },
        "characters": {
            "success": Lengths("characters", 3996, 1650.0, 3600.0, 9000.0, CHARACTERS, (800, 2000, 1100, 96)),
            "failure": Lengths("characters", 1969, 2900.0, 6500.0, 16044.0, CHARACTERS, (69, 600, 1100, 200)),
        },
        "turns": {
            "success": Lengths("turns", 3996, 3.0, 5.0, 9.0, TURNS, (96, 900, 1800, 1000, 200)),
            "failure": Lengths("turns", 1969, 5.0, 8.0, 11.0, TURNS, (19, 150, 400, 800, 600)),
        },
    },
    token_limit=2048,
    tokens_sampled=1500,
    findings=(
        Finding(
            "label_leak",
            "error",
            2990,
            5965,
            "trajectories",
            'In 2990 trajectories, an observation that the model sees says how the episode ended ("reward = True").',
            "Drop the last observation (quality.label_in_text=drop), or the model learns to read the label.",
            (LEAK, Sighting(f"{GPT_4}:18", "hotpot-18-gpt-4", LEAK.excerpt, 7, (31, 44))),
            {"reward = True": 2990, "reward = False": 0},
        ),
        Finding(
            "evaluation_overlap",
            "error",
            41,
            3104,
            "questions",
            "41 questions also stand in data/hotpotqa/dev_questions.json, 12 of them under another id.",
            "Keep them out of training: quality.evaluation_overlap=drop.",
            (OVERLAP,),
        ),
        Finding(
            "skew",
            "warning",
            2,
            4,
            "features",
            "Source alone tells successes from failures with an AUC of 0.91, the number of turns with 0.74.",
            "Balance the sources, or train with source as a condition, before believing a difference.",
            details={
                "source": {"auc": 0.912, "successes": 3996, "failures": 1969},
                "turns": {"auc": 0.741, "successes": 3996, "failures": 1969},
            },
        ),
        Finding(
            "exact_duplicates",
            "warning",
            120,
            5965,
            "trajectories",
            "120 trajectories repeat another one word for word.",
            "One copy of each is kept: quality.exact_duplicates.",
            (Sighting(f"{STRATEGY}:record 40", "s-40", "same as s-39"),),
            {"within a file": 118, "across_files": 2},
        ),
        Finding("bad_rows", "warning", 35, 6000, "rows", "35 rows could not be read.", "See the table of bad rows."),
        Finding(
            "secret",
            "warning",
            3,
            5965,
            "trajectories",
            "3 trajectories hold what looks like an API key.",
            "Withdraw the key and drop them: quality.secret=drop.",
            (SECRET,),
        ),
        Finding(
            "unparsed_action",
            "note",
            250,
            21034,
            "turns",
            "250 turns hold no action that can be read.",
            "Mask them (quality.failed_turns=until_first_error) or leave them: failures may hold them.",
            (UNPARSED,),
        ),
        Finding(
            "repeated_questions",
            "note",
            1900,
            3104,
            "questions",
            "1900 questions have several trajectories, 12 at most.",
            "Wanted where a question has successes and failures; else see quality.max_per_question.",
        ),
        Finding(
            "email_address",
            "note",
            9,
            5965,
            "trajectories",
            "9 trajectories hold an e-mail address.",
            "Drop them if they are people's: quality.email_address=drop.",
        ),
    ),
    bad_rows=(
        DroppedRow(f"{STRATEGY}:record 3", "empty_conversation", "conversations: []"),
        DroppedRow(f"{GPT_4}:991", "not_json", "line ends in the middle of a string"),
        DroppedRow(f"{LLAMA}:record 8", "no_agent_turn", "only a user's message"),
    ),
    n_bad_rows={"empty_conversation": 20, "no_agent_turn": 11, "not_json": 4},
    n_dropped={"exact_duplicates": 120, "secret": 3},
    n_clean=5842,
    shown=(
        Shown(f"{GPT_4}:17", LEAKED, (("label_leak", LEAK), ("unparsed_action", UNPARSED))),
        Shown(f"{LLAMA}:23", ABSTAINED, (("secret", SECRET), ("evaluation_overlap", OVERLAP))),
    ),
    settings={
        "audit": {"output": "outputs/audit", "fail_on": "error", "examples": 5, "near": 0.9},
        "quality": {"name": "default", "exact_duplicates": "drop", "max_per_question": None},
        "trajectories": {"label": None},
    },
    seconds=12.34,
)

EMPTY = Audit(
    files=(),
    n_successes=0,
    n_failures=0,
    n_questions=0,
    by_source={},
    by_failure={},
    per_question={},
    questions_with={},
    lengths={},
    token_limit=None,
    tokens_sampled=None,
    findings=(),
    bad_rows=(),
    n_bad_rows={},
    n_dropped={},
    n_clean=0,
    shown=(),
    settings={},
    seconds=0.0,
    is_partial=True,
)


def hostile(text: str) -> Audit:
    """An audit whose every text from outside is `text`."""
    place = Sighting(text, text, text, 0, (0, len(text)))
    messages = (Message("assistant", text, tool_calls=({text: text},)), Message("user", text))
    outcome = Outcome(False, 0.0, "wrong_answer", text, text)
    found = ((text, place), (text, Sighting(text, text, text)))
    shown = Shown(text, Trajectory(text, text, text, messages, outcome, text), found)
    return Audit(
        files=(FileRead(text, text, 10, 3, 2, 1),),
        n_successes=1,
        n_failures=1,
        n_questions=1,
        by_source={text: (1, 1)},
        by_failure={text: 1},
        per_question={2: 1},
        questions_with={text: 1},
        lengths={text: {text: Lengths(text, 3, 1.0, 2.0, 2.0, (0, 1, 2), (1, 2))}},
        token_limit=4,
        tokens_sampled=2,
        findings=(
            Finding(text, "error", 1, 2, text, text, text, (place,), {text: text, "more": {text: [text]}}),
            Finding(text, "note", 1, 2, text, text, text, (place,), {text: {text: text}, f"{text}2": {text: 1}}),
        ),
        bad_rows=(DroppedRow(text, "not_json", text),),
        n_bad_rows={text: 1},
        n_dropped={f"{text}2": 1},
        n_clean=1,
        shown=(shown,),
        settings={text: text, "audit": {"output": text, text: [text]}},
        seconds=1.0,
    )
