"""What stands inside the text of a message: thoughts, calls, observations, and what is only quoted."""

import json

import pytest

from nat.trajectories.formats import chat
from nat.trajectories.formats.conversations import read_conversations
from nat.trajectories.formats.inline import left_as_text, taken_apart
from nat.trajectories.formats.tool_calls import as_react_text
from nat.types import Message

ADD = {"name": "add", "arguments": {"x": "2"}}
ADDED = '<tool_call>{"name": "add", "arguments": {"x": "2"}}</tool_call>'


def apart(text, **more):
    return taken_apart([Message("assistant", text, **more)])


def turn(content, *calls, reasoning="", **more):
    return Message("assistant", content, tool_calls=calls, reasoning=reasoning, **more)


def read(tmp_path, *messages, **fields):
    path = tmp_path / "mine.jsonl"
    record = {"success": False, **fields, "messages": [{"role": "user", "content": "Q?"}, *messages]}
    path.write_text(json.dumps(record) + "\n")
    ((_, trajectory),) = read_conversations(chat.conversations, path)
    return trajectory


# ---- thoughts ----


@pytest.mark.parametrize(
    ("text", "thought", "rest"),
    [
        ("<think>Two and two.</think>4", "Two and two.", "4"),
        ("<think>\nTwo and two.\n</think>\n\n4\n", "Two and two.", "4"),
        ("<thinking>a</thinking><thought>b</thought>c", "a\n\nb", "c"),
        ("<think></think>4", "", "4"),
        ("Two and two.\n</think>\n\n4", "Two and two.", "4"),  # the template opened it
        ("a </think> b </think> c", "a </think> b", "c"),  # as templates cut it
        ("a</think>b<think>c</think>d", "a\n\nc", "bd"),
        ("<think>a <think>b</think> c</think> d", "a <think>b</think> c", "d"),
        ("<think>Close <think> first.</think> d", "Close <think> first.", "d"),
        ("<think>a</think> b </think> c", "a", "b </think> c"),
        ("<think>\n```python\nx = 1\n```\n</think>\n4", "```python\nx = 1\n```", "4"),
        ("<think>\n```python\nx = 1\n</think>\n```python\ny\n```", "```python\nx = 1", "```python\ny\n```"),
    ],
)
def test_a_thought_is_reasoning(text, thought, rest):
    assert apart(text) == [turn(rest, reasoning=thought)]


@pytest.mark.parametrize(
    "text",
    [
        "<think>Two and two, and",  # it never ended: nothing is closed for it
        "```html\n<think>a</think>\n```\nDone.",
        "~~~\n<think>a</think>\n~~~",
        'Split it at </think>:\n```python\ntext.split("</think>")\n```'.replace(" </think>", " `</think>`"),
        "Write `<think>` before and `</think>` after it.",
        "1 < 2 and 3 > 2",
        "<thinker>a</thinker>",
    ],
)
def test_what_is_quoted_or_unfinished_stays_text(text):
    assert apart(text) == [turn(text)]


def test_a_thought_is_not_said_twice_beside_the_messages_own():
    assert apart("<think>a</think>b", reasoning="a") == [turn("b", reasoning="a")]
    assert apart("<think>a</think>b", reasoning="z") == [turn("b", reasoning="z\n\na")]


def test_a_turn_that_ends_in_a_thought_has_no_answer(tmp_path):
    trajectory = read(tmp_path, {"role": "assistant", "content": "<think>Two and two, so 4"})
    assert (trajectory.outcome.prediction, trajectory.outcome.failure) == (None, "no_answer")
    trajectory = read(tmp_path, {"role": "assistant", "content": "<think>Two and two</think>4"})
    assert (trajectory.outcome.prediction, trajectory.outcome.failure) == ("4", "wrong_answer")


# ---- observations ----


def test_search_in_one_text():
    text = (
        "<think>I look.</think><search>E author</search><information>Doc 1: by Ann.</information>\n"
        "<think>Ann.</think><answer>Ann</answer>"
    )
    assert apart(text) == [
        turn("<search>E author</search>", reasoning="I look."),
        Message("tool", "Doc 1: by Ann."),
        turn("<answer>Ann</answer>", reasoning="Ann."),
    ]


@pytest.mark.parametrize("tag", ["information", "tool_response", "tool_output", "observation"])
def test_tags_of_observations(tag):
    assert apart(f"{ADDED}\n<{tag}>\n 5 \n</{tag}>\nIt is 5.") == [
        turn("", ADD),
        Message("tool", "5"),
        turn("It is 5."),
    ]


def test_several_observations_and_one_that_ends_the_text():
    text = f"{ADDED}<tool_response>5</tool_response>{ADDED}<tool_response>6</tool_response>"
    assert apart(text) == [turn("", ADD), Message("tool", "5"), turn("", ADD), Message("tool", "6")]


def test_an_observation_that_is_cut_off_is_one():
    assert apart("<search>a</search>\n<information>Doc 1: by A") == [
        turn("<search>a</search>"),
        Message("tool", "Doc 1: by A"),
    ]
    text = "The mark <information> begins a document."
    assert apart(text) == [turn(text)]


def test_what_code_printed_is_an_observation():
    text = "I add.\n```python\nprint(2+2)\n```\n```output\n4\n```\nIt is $\\boxed{4}$."
    assert apart(text) == [
        turn("I add.\n```python\nprint(2+2)\n```"),
        Message("tool", "4"),
        turn("It is $\\boxed{4}$."),
    ]
    text = "Run this:\n```python\nprint(2+2)\n```\nIt will print:\n```output\n4\n```"  # written by the agent
    assert apart(text) == [turn(text)]


def test_an_observation_that_opens_a_turn_or_stands_in_code_is_quoted():
    for text in (
        "<information>a</information> is what I was told.",
        "I write\n```xml\n<a><tool_response>5</tool_response>\n```",
        "Use `<information>` and `</information>`.",
    ):
        assert apart(text) == [turn(text)]


def test_a_quoted_mark_does_not_hide_what_follows():
    text = "I use `<information>` now.<search>q</search><information>D</information><answer>A</answer>"
    assert apart(text) == [
        turn("I use `<information>` now.<search>q</search>"),
        Message("tool", "D"),
        turn("<answer>A</answer>"),
    ]


def test_loss_and_calls_of_the_message_go_with_its_parts():
    message = turn("a<tool_response>5</tool_response>", ADD, reasoning="r", train=False, weight=0.5)
    assert taken_apart([message]) == [
        turn("a", reasoning="r", train=False, weight=0.5),
        Message("tool", "5"),
        turn("", ADD, train=False, weight=0.5),
    ]


def test_a_user_message_of_nothing_but_results_is_the_tools():
    text = "<tool_response>\n5\n</tool_response>\n<tool_response>6</tool_response>"
    assert taken_apart([Message("user", text)]) == [Message("tool", "5"), Message("tool", "6")]
    for text in ("<tool_response>5</tool_response> Go on.", "<think>a</think>", ADDED):
        assert taken_apart([Message("user", text)]) == [Message("user", text)]
    assert taken_apart([Message("system", ADDED)]) == [Message("system", ADDED)]


# ---- calls ----


@pytest.mark.parametrize(
    ("text", "call"),
    [
        (ADDED, ADD),
        ('<tool_call>\n{"name": "add", "arguments": {"x": "2"}}\n</tool_call>', ADD),
        ('<tool_call>{"name": "add", "arguments": {"x": "2"}}', ADD),  # where the stop text is cut off
        ("<tool_call>\n{'arguments': {'x': '2'}, 'name': 'add'}\n</tool_call>", ADD),
        ('<tool_call>{"name": "now", "arguments": {}}</tool_call>', {"name": "now", "arguments": {}}),
        (
            "<tool_call>\n<function=add>\n<parameter=x>\n2\n</parameter>\n</function>\n</tool_call>",
            ADD,
        ),
        ("<function=add>\n<parameter=x>2</parameter>\n</function>", ADD),
        (
            "<function=write>\n<parameter=path>\na.py\n</parameter>\n<parameter=text>\n\nx = 1\n  y\n</parameter>\n"
            "</function>",
            {"name": "write", "arguments": {"path": "a.py", "text": "\nx = 1\n  y"}},
        ),
        ('<function=add>{"x": "2"}</function>', ADD),
        ("<function=now>\n</function>", {"name": "now", "arguments": {}}),
        ("<tool_call>add\n<arg_key>x</arg_key>\n<arg_value>2</arg_value>\n</tool_call>", ADD),
        ("<tool_call>now</tool_call>", {"name": "now", "arguments": {}}),
        ('[TOOL_CALLS] [{"name": "add", "arguments": {"x": "2"}}]</s>', ADD),
        ('[TOOL_CALLS]add[ARGS]{"x": "2"}', ADD),
        ('[TOOL_CALLS]add[CALL_ID]a1b2c3d4e[ARGS]{"x": "2"}</s>', ADD),
        (
            '<|python_tag|>{"name": "add", "parameters": {"x": "2"}}<|eom_id|>',
            {"name": "add", "parameters": {"x": "2"}},
        ),
    ],
)
def test_a_call_in_the_text_is_one_of_the_turns(text, call):
    assert apart(text) == [turn("", call)]
    assert left_as_text(apart(text)) == 0


def test_several_calls_and_text_around_them():
    other = '<tool_call>{"name": "sub", "arguments": {"y": 1}}</tool_call>'
    sub = {"name": "sub", "arguments": {"y": 1}}
    assert apart(f"<think>t</think>I add.\n{ADDED}\n{other}\nWait.") == [
        turn("I add.\n\n\nWait.", ADD, sub, reasoning="t")
    ]
    listed = '[TOOL_CALLS][{"name": "add", "arguments": {"x": "2"}}, {"name": "sub", "arguments": {"y": 1}}]'
    assert apart(f"I add.{listed}") == [turn("I add.", ADD, sub)]
    assert apart('[TOOL_CALLS]add[ARGS]{"x": "2"}[TOOL_CALLS]sub[ARGS]{"y": 1}') == [turn("", ADD, sub)]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "add", "arguments": {"x": "2"}</tool_call>',  # a bracket is missing
        '<tool_call>{"arguments": {"x": "2"}}</tool_call>',
        '<tool_call>["add"]</tool_call>',
        "<tool_call>add 2 and 3, please</tool_call>",
        '<tool_call>{"name": "add", "arguments": {"x": NaN}}</tool_call>',
        f'{ADDED}\n<tool_call>{{"name": "add", "arg</tool_call>',  # no turn is half read
        "<function=add>\n<parameter=x>\n2\n</function>",
        "<function=add>\n<parameter=x>2</parameter>",
        "<function=add>2</function>",
        "<tool_call>add<arg_key>x</arg_key></tool_call>",
        "<function=add><parameter=x>2</parameter><parameter=x>3</parameter></function>",
        f"[TOOL_CALLS] add {ADDED}",
        "<|python_tag|>print(2)",
        '<|python_tag|>{"x": 2}',
        "[TOOL_CALLS] add the numbers",
        "[TOOL_CALLS]add[ARGS]{x: 2}",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{}<|tool_call_end|>",
        '<function_call>{"name": "add"}</function_call>',
    ],
)
def test_a_call_that_cannot_be_read_stays_text_and_is_counted(text, tmp_path):
    assert apart(text) == [turn(text)]
    trajectory = read(tmp_path, {"role": "assistant", "content": text}, {"role": "assistant", "content": "5"})
    assert trajectory.messages[0] == turn(text)
    assert trajectory.metadata == {"success": False, "calls_left_as_text": 1}


@pytest.mark.parametrize("text", [f"```\n{ADDED}\n```", f"Write `{ADDED}`.", "Say `[TOOL_CALLS]`."])
def test_a_quoted_call_is_none(text, tmp_path):
    assert apart(text) == [turn(text)]
    trajectory = read(tmp_path, {"role": "assistant", "content": text})
    assert trajectory.metadata == {"success": False}


def test_a_call_that_the_message_has_too_is_one():
    own = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": "2"}'}}
    assert apart(f"I add. {ADDED}", tool_calls=(own,)) == [turn("I add.", own)]
    other = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": "3"}'}}
    assert apart(f"I add. {ADDED}", tool_calls=(other,)) == [turn("I add.", other, ADD)]


# ---- whole conversations ----


def test_tagged_calls_in_a_conversation(tmp_path):
    trajectory = read(
        tmp_path,
        {"role": "assistant", "content": f"<think>I add.</think>{ADDED}"},
        {"role": "tool", "content": "5"},
        {"role": "assistant", "content": "<final_answer>5</final_answer>"},
        success=True,
    )
    assert trajectory.messages == (
        turn("", ADD, reasoning="I add."),
        Message("tool", "5"),
        turn("<final_answer>5</final_answer>"),
    )
    assert trajectory.outcome.prediction == "5"


def test_a_user_message_after_a_call_is_its_result(tmp_path):
    trajectory = read(
        tmp_path,
        {"role": "assistant", "content": "I look.\n<function=run>\n<parameter=command>ls</parameter>\n</function>"},
        {"role": "user", "content": "EXECUTION RESULT of [run]:\na.py"},
        {"role": "assistant", "content": "Done."},
    )
    assert as_react_text(trajectory.messages) == (
        Message("assistant", "Thought: I look.\nAction: run[ls]"),
        Message("tool", "EXECUTION RESULT of [run]:\na.py"),
        Message("assistant", "Done."),
    )


def test_observations_of_user_messages_beside_calls(tmp_path):
    call = {"id": "c", "type": "function", "function": {"name": "search", "arguments": '{"q":"X"}'}}
    trajectory = read(
        tmp_path,
        {"role": "assistant", "content": "Thought: look", "tool_calls": [call]},
        {"role": "user", "content": "Observation: Y"},
        {"role": "assistant", "content": "Thought: done\nAction: finish[Y]"},
    )
    assert trajectory.messages == (
        turn("Thought: look", call),
        Message("tool", "Y"),
        turn("Thought: done\nAction: finish[Y]"),
    )
    assert as_react_text(trajectory.messages)[0].content == "Thought: look\nAction: search[X]"


@pytest.mark.parametrize("key", ["args", "arguments", "parameters", "input", "kwargs", "tool_args", "tool_input"])
def test_arguments_by_any_name_are_kept(key, tmp_path):
    call = {"name": "lookup", key: {"city": "X"}, "id": "c1", "type": "tool_call"}
    trajectory = read(
        tmp_path, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "Y"}
    )
    assert trajectory.messages[0] == turn("", call)
    assert as_react_text(trajectory.messages)[0].content == "Action: lookup[X]"


def test_calls_may_be_json_text(tmp_path):
    call = {"id": "c1", "function": {"name": "add", "arguments": '{"x": "2"}'}}
    for given in ([json.dumps(call)], json.dumps([call])):
        trajectory = read(tmp_path, {"role": "assistant", "content": "", "tool_calls": given})
        assert trajectory.messages == (turn("", call),)
    trajectory = read(tmp_path, {"role": "assistant", "content": "5", "tool_calls": ""})
    assert trajectory.messages == (turn("5"),)


def test_a_prompt_is_taken_apart_as_well(tmp_path):
    path = tmp_path / "mine.jsonl"
    prompt = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": f"<think>t</think>{ADDED}"}]
    prompt += [{"role": "user", "content": "<tool_response>5</tool_response>"}, {"role": "user", "content": "2?"}]
    record = {"success": True, "messages": [*prompt, {"role": "assistant", "content": "6"}], "question": "2?"}
    path.write_text(json.dumps(record) + "\n")
    ((_, trajectory),) = read_conversations(chat.conversations, path)
    assert trajectory.prompt[1] == turn("", ADD, reasoning="t", train=False)
    assert trajectory.prompt[2] == Message("tool", "5")
    assert trajectory.messages == (turn("6"),)


@pytest.mark.parametrize(
    "text", ["<think>", "</think>", "<tool_call>", "<information>", "```output\n", "[TOOL_CALLS]", "<function=a>", "`<"]
)
def test_many_marks_take_no_long_time(text):
    apart(text * 3_000)
    apart(f"a>{text * 3_000}</think></tool_call></information>")
    apart(f"```\n{text * 3_000}\n```")
