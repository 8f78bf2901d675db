"""Chat messages with and without tool calls, tool calls as text actions, and how their episodes fail."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.agents.actions import Action, parse_action
from nat.core.rows.bad import BadRow
from nat.trajectories.formats import chat
from nat.trajectories.formats.conversations import read_conversations
from nat.trajectories.formats.tool_calls import as_react_text, input_text
from nat.types import Message, Outcome


def call(name, arguments, id="c1"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


ADD = call("calculate", '{"expression": "2 + 3"}')
RECORD = {
    "messages": [
        {"role": "system", "content": "Use the calculator."},
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": None, "tool_calls": [ADD]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "assistant", "content": "Answer: 5"},
    ],
    "tools": [{"type": "function", "function": {"name": "calculate", "parameters": {}}}],
    "score": 1.0,
    "ground_truth": "5",
}


def read(tmp_path, *records, **options):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return [trajectory for _, trajectory in read_conversations(chat.conversations, path, **options)]


def ask(*messages, **fields):
    return {"score": 0, **fields, "messages": [{"role": "user", "content": "Q?"}, *messages]}


def agent(content, *calls):
    return {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {})}


def test_the_record_in_the_documentation(tmp_path):
    assert chat.__doc__ is not None
    record = json.JSONDecoder().raw_decode(chat.__doc__, chat.__doc__.index("{"))[0]
    assert record == RECORD
    assert chat.recognises(record)
    (trajectory,) = read(tmp_path, record)
    assert (trajectory.id, trajectory.question, trajectory.source) == ("mine:1", "What is 2 + 3?", "mine")
    assert trajectory.messages == (
        Message("assistant", "", tool_calls=(ADD,)),
        Message("tool", "5"),
        Message("assistant", "Answer: 5"),
    )
    assert trajectory.outcome == Outcome(True, 1.0, None, "5", "5")
    fields = {key: RECORD[key] for key in ("score", "ground_truth")}
    assert trajectory.metadata == {**fields, "preamble_messages": 1}
    assert trajectory.tools == tuple(RECORD["tools"])
    assert [message.content for message in trajectory.prompt] == ["Use the calculator.", "What is 2 + 3?"]
    assert as_react_text(trajectory.messages) == (
        Message("assistant", "Action: calculate[2 + 3]"),
        Message("tool", "5"),
        Message("assistant", "Answer: 5"),
    )


def test_contents_of_all_kinds(tmp_path):
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": " b"}, "c"]
    record = {
        "score": 0,
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Q?"}]},
            {"role": "assistant", "content": parts, "weight": 0},
            {"role": "function", "name": "f", "content": None},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": None,
                "function_call": {"name": "f", "arguments": "{}"},
            },
        ],
    }
    (trajectory,) = read(tmp_path, record)
    assert trajectory.question == "Q?"
    assert trajectory.messages == (
        Message("assistant", "a  bc", train=False),
        Message("tool", ""),
        Message("assistant", "", tool_calls=({"function": {"name": "f", "arguments": "{}"}},)),
    )


def test_results_in_another_order_are_put_in_the_order_of_their_calls(tmp_path):
    first, second = call("f", "{}", "a"), call("g", "{}", "b")
    results = [{"role": "tool", "tool_call_id": id, "content": f"result of {id}"} for id in ("b", "a")]
    (trajectory,) = read(tmp_path, ask(agent(None, first, second), *results, agent("Answer: 7")))
    assert [m.content for m in trajectory.messages] == ["", "result of a", "result of b", "Answer: 7"]
    # Where an id names no call, nothing is known about the order.
    results[0]["tool_call_id"] = "z"
    (trajectory,) = read(tmp_path, ask(agent(None, first, second), *results))
    assert [m.content for m in trajectory.messages] == ["", "result of b", "result of a"]


FLAWS = [
    ({"messages": []}, "empty_conversation", "'messages' is empty"),
    (ask({"role": "narrator", "content": "a"}), "wrong_value", "unknown role 'narrator'; the roles are system, "),
    (
        ask({"role": "assistant", "content": [{"type": "image_url", "image_url": {}}]}),
        "wrong_value",
        "part 'image_url'",
    ),
    (ask({"role": "user", "content": None}), "wrong_value", "'content' is null; it must be text"),
    (ask({"role": "user"}), "missing_value", "'content' is missing"),
    (ask({"role": "assistant", "content": 7}), "wrong_value", "'content' is 7"),
    (ask(agent(None, {"id": "c1"})), "wrong_value", "a tool call is {'id': 'c1'}"),
    (ask({**agent("a"), "tool_calls": "f"}), "wrong_value", "'tool_calls' is \"f\"; it must be a list"),
    (ask({**agent("a"), "weight": "2"}), "wrong_value", "'weight' is '2'; it must be true or false, or a number"),
    ({**RECORD, "score": None}, "no_label", "success is nowhere said"),
]


def test_every_flaw_is_named_and_the_rest_is_read(tmp_path):
    bad: list[BadRow] = []
    records = [record for change, _, _ in FLAWS for record in (change, RECORD)]
    assert len(read(tmp_path, *records, on_bad=bad.append)) == len(FLAWS)
    assert [(row.where, row.reason) for row in bad] == [
        (f"{tmp_path / 'mine.jsonl'}:{1 + 2 * number}", reason) for number, (_, reason, _) in enumerate(FLAWS)
    ]
    for row, (_, _, message) in zip(bad, FLAWS, strict=True):
        assert message in row.problem


# ---- tool calls as text ----


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"query": "Ann Lee"}', "Ann Lee"),
        ({"query": "Ann Lee"}, "Ann Lee"),
        ({"query": "Ann Lee", "page": None}, "Ann Lee"),  # a column of another row's argument
        ('{"n": 3}', "3"),
        ('{"items": ["a", "\u00e9"]}', '["a", "\u00e9"]'),
        ('{"a":1,  "b":"x"}', '{"a":1,  "b":"x"}'),  # as it was written
        ({"a": 1, "b": "x"}, '{"a": 1, "b": "x"}'),
        ("{}", ""),
        ("", ""),
        (None, ""),
        ("Ann Lee", "Ann Lee"),  # no JSON
        ('{"query": "Ann', '{"query": "Ann'),
        ('"Ann"', "Ann"),
        ('{"query": "\\ud800"}', '{"query": "\\ud800"}'),  # half of a character is no text
    ],
)
def test_arguments_as_text(arguments, text):
    assert input_text(arguments) == text


def test_calls_become_actions_and_texts_their_thoughts():
    f, g = call("f", '{"x": "1"}'), {"name": "g", "arguments": {"y": "2"}}
    done = Message("assistant", "Action: finish[7]")
    as_text: list[tuple[list[Message], list[str]]] = [
        (
            [Message("assistant", " Look. ", tool_calls=(f,)), Message("tool", "a"), done],
            [
                "Thought: Look.\nAction: f[1]",
                "a",
                "Action: finish[7]",
            ],
        ),
        ([Message("assistant", "Thought: Look.", tool_calls=(f,))], ["Thought: Look.\nAction: f[1]"]),
        # The text before a call without text is its thought, in a turn of its own or not.
        (
            [Message("assistant", "Look."), Message("assistant", "", tool_calls=(f,)), Message("tool", "a")],
            [
                "Thought: Look.\nAction: f[1]",
                "a",
            ],
        ),
        # Each call at once gets its result; what has none stays in the last turn.
        (
            [Message("assistant", "Both.", tool_calls=(f, g)), Message("tool", "a"), Message("tool", "b"), done],
            [
                "Thought: Both.\nAction: f[1]",
                "a",
                "Action: g[2]",
                "b",
                "Action: finish[7]",
            ],
        ),
        (
            [Message("assistant", "", tool_calls=(f, g)), Message("tool", "a"), done],
            [
                "Action: f[1]\nAction: g[2]",
                "a",
                "Action: finish[7]",
            ],
        ),
        ([Message("assistant", "", tool_calls=(f, g))], ["Action: f[1]\nAction: g[2]"]),
        (
            [Message("assistant", "", tool_calls=(f,)), Message("tool", "a"), Message("tool", "b")],
            [
                "Action: f[1]",
                "a",
                "b",
            ],
        ),
        # ShareGPT's call is text and call at once.
        ([Message("assistant", '{"name": "g", "arguments": {"y": "2"}}', tool_calls=(g,))], ["Action: g[2]"]),
        ([Message("assistant", "", tool_calls=({"id": 1},))], ['Action: {"id": 1}']),
    ]
    for messages, texts in as_text:
        written = as_react_text(messages)
        assert [m.content for m in written] == texts
        assert not any(m.tool_calls for m in written)


def test_turns_without_loss_stay_without_loss_and_are_not_merged():
    silent = Message("assistant", "Look.", train=False)
    calling = Message("assistant", "", tool_calls=(ADD,))
    written = as_react_text([silent, calling])
    assert [(m.content, m.train) for m in written] == [("Look.", False), ("Action: calculate[2 + 3]", True)]
    plain = (Message("assistant", "Action: search[a]"), Message("tool", " b "), Message("user", "c"))
    assert as_react_text(plain) == plain


@given(st.text(st.characters(codec="utf-8", exclude_characters="[]\uff3b\uff3d\u3010\u3011\r\n"), max_size=30))
def test_what_a_call_passes_on_is_what_its_text_action_passes_on(input):
    (turn,) = as_react_text([Message("assistant", "Hm.", tool_calls=(call("f", json.dumps({"x": input})),))])
    if "action" not in input.lower():
        assert parse_action(turn.content, ["f"]) == Action("f", input.strip())


# ---- failures ----

SEARCH = call("look_up", '{"q": "a"}')


def tool(content):
    return {"role": "tool", "content": content}


@pytest.mark.parametrize(
    ("messages", "failure"),
    [
        ([agent(None, SEARCH), tool("b"), agent("It is b.")], "wrong_answer"),
        ([agent(None, SEARCH), tool("b"), agent("I cannot say.\nSorry for that.")], "wrong_answer"),
        ([agent(None, SEARCH), tool("b"), agent("I could not find out.")], "abstained"),
        ([agent(None, call("finish", '{"answer": "b"}'))], "wrong_answer"),
        ([agent(None, SEARCH), tool("b")], "out_of_turns"),
        ([agent(None, SEARCH)], "out_of_turns"),
        ([agent(None, SEARCH), tool("Error: no such page")], "tool_error"),
        ([agent(None, SEARCH), tool("ValueError: q must not be empty")], "tool_error"),
        ([agent(None, SEARCH), tool("Errors and how to mend them, a book")], "out_of_turns"),
        ([agent(None, SEARCH), tool("Error code: 429 - Rate limit reached for model")], "infrastructure"),
        ([agent(None, SEARCH), tool("503 Service Unavailable")], "infrastructure"),
        ([agent(None, SEARCH), tool("The film Connection Refused won")], "out_of_turns"),
        ([agent(None, SEARCH), tool("b"), agent("Error: openai.error.RateLimitError, rate limit exceeded")],
         "infrastructure"),
        ([agent(None, SEARCH), tool("b"), agent("")], "no_answer"),
        ([agent("Action: open_door[1]"), tool("It is open.")], "out_of_turns"),  # any name is a tool's here
        ([agent("Action: open_door[1]"), tool("ok"), agent("Thought: hm")], "unparsed_action"),
        ([agent("Action: open_door(1")], "unparsed_action"),
        ([agent("2 + 3 = 6.\nAnswer: 6")], "wrong_answer"),
        ([agent("2 + 3 is\nwell, hard to")], "wrong_answer"),  # a plain chat: nothing names an answer
    ],
)  # fmt: skip
def test_the_kind_of_a_failure(tmp_path, messages, failure):
    (trajectory,) = read(tmp_path, ask(*messages))
    assert trajectory.outcome.failure == failure


def test_an_answer_is_due_where_there_is_one_to_compare_with(tmp_path):
    (trajectory,) = read(tmp_path, ask(agent("2 + 3 is\nwell, hard to"), answer="5"))
    assert trajectory.outcome.failure == "no_answer"


def test_only_a_question_that_begins_so_loses_its_name(tmp_path):
    said = "Answer this: write a quiz.\nQuestion: 1 + 1?\nQuestion: 2 + 2?"
    for text, question in ((said, said), ("Question: 1 + 1?", "1 + 1?")):
        record = {"success": True, "messages": [{"role": "user", "content": text}, agent("2")]}
        (trajectory,) = read(tmp_path, record)
        assert trajectory.question == question


def test_a_turn_that_asks_the_user_for_something_is_no_priming(tmp_path):
    def first_turn(text):
        messages = [{"role": "user", "content": "Change my flight."}, agent(text)]
        messages += [{"role": "user", "content": "I am Ann."}, agent("Done.")]
        (trajectory,) = read(tmp_path, {"success": True, "messages": messages})
        return trajectory.question, trajectory.messages[0].content

    asks = "Sure, I can help you. Could you give me your user id?"
    assert first_turn(asks) == ("Change my flight.", asks)
    assert first_turn("Sure. What is your question?") == ("I am Ann.", "Done.")
