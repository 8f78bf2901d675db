"""What models write, and what is read from it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nat.agents.actions import (
    Action,
    AgentConfig,
    UnparsedAction,
    chain_of_thought,
    parse_action,
    parse_answer,
    render_solution,
    render_turn,
)
from nat.trajectories.formats.gsm8k_solutions import solution_messages
from nat.types import Message
from tests.conftest import ROOT

TOOLS = ("calculate",)


@pytest.mark.parametrize("name", ["react", "cot"])
def test_the_shipped_agents_load(name):
    agent = AgentConfig(**yaml.safe_load((ROOT / "conf" / "agent" / f"{name}.yaml").read_text()))
    assert (agent.name, agent.style) == (name, name)
    assert (agent.instructions is None) == (name == "react")


def test_a_turn_is_written_as_models_are_trained_to_write_it():
    assert render_turn("3 boxes of 12", "calculate", "3 * 12") == "Thought: 3 boxes of 12\nAction: calculate[3 * 12]"


@pytest.mark.parametrize(
    ("text", "tool", "input"),
    [
        ("Thought: add.\nAction: calculate[2 + 2]", "calculate", "2 + 2"),
        ("Action: finish[18].", "finish", "18"),
        ("Thought: done. Action: finish[18]", "finish", "18"),  # no line break
        ("action: FINISH[18]", "finish", "18"),
        ("Action 2: calculate [2 + 2]", "calculate", "2 + 2"),
        ("**Action:** finish[18]", "finish", "18"),
        ("Action:\nfinish[18]", "finish", "18"),
        ("Action: finish[a[0]]", "finish", "a[0]"),
        ("Action: finish[a[0]", "finish", "a[0"),  # opens more than it closes: up to the line's last bracket
        ("Action: finish[]", "finish", ""),
        ("Action: finish[ 18 ]", "finish", "18"),
        ("Action: calculate[2+2]\nObservation: 4\nAction: finish[4]", "calculate", "2+2"),  # only the first counts
        ("Thought: the next action: add.\nAction: calculate[1+1]", "calculate", "1+1"),
        ("Action: finish[18] because that is it", "finish", "18"),
        ("Thought 3: yes. **Action 3**: **finish[18]**", "finish", "18"),
        ("### Action: `finish[18]`", "finish", "18"),
        ("_Action:_ finish[18]", "finish", "18"),
        ("Action：finish［18］", "finish", "18"),  # full-width colon and brackets
        ("Action: finish【18】", "finish", "18"),
        ("Action: finish[［18］]", "finish", "［18］"),  # only brackets of one kind close each other
        ("Action: finish[Live Action: the film]", "finish", "Live Action: the film"),
        ("Action: calculate[1+\n2]", "calculate", "1+\n2"),
        ("Action: calculate[1+1], calculate[2+2]", "calculate", "1+1"),
        ("Action: finish[18]]", "finish", "18"),
        ("Action: none yet\nThought: ah.\nAction: finish[18]", "finish", "18"),
        ("Action: finish[a [b]\nObservation: see [1]]", "finish", "a [b"),  # what is made up belongs to no input
    ],
)
def test_what_is_accepted(text, tool, input):
    assert parse_action(text, TOOLS) == Action(tool, input)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no line 'Action: tool[input]'"),
        ("finish[18]", "there is no line 'Action: tool[input]'"),
        ("Faction: finish[18]", "there is no line 'Action: tool[input]'"),
        ("Action: I will add them", "after 'Action:' comes no tool[input]"),
        ("Action: search[cats]", "there is no tool 'search'; use one of calculate, finish"),
        ("Action: finish[18", "the bracket after 'finish' is never closed"),
        ("Action: calculate[1+2\nAction: finish[3]", "the bracket after 'calculate' is never closed"),
        ("Action: calculate[1+2 Action: finish[3]", "the bracket after 'calculate' is never closed"),
        ("Action: finish[18\nObservation: [1] x]", "the bracket after 'finish' is never closed"),
        ("Action: finish 18", "after 'Action:' comes no tool[input]"),
        ("Final Answer: 18", "there is no line 'Action: tool[input]'"),
        ("Action: add(1, 2)", "after 'Action:' comes no tool[input]"),
        ("Action: calculate(1 + 2)", "the input of 'calculate' must stand in square brackets: calculate[input]"),
        ("Action: click[x]\nAction: finish[18]", "there is no tool 'click'; use one of calculate, finish"),
    ],
)
def test_what_is_rejected_and_why(text, reason):
    assert parse_action(text, TOOLS) == UnparsedAction(reason)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hello", "no_action"),
        ("Action: hello", "no_call"),
        ("Action: Finish(18)", "wrong_brackets"),
        ("Action: search[cats]", "unknown_tool"),
        ("Action: finish[18", "open_bracket"),
    ],
)
def test_rejections_are_counted_by_kind(text, kind):
    rejected = parse_action(text, TOOLS)
    assert isinstance(rejected, UnparsedAction)
    assert rejected.kind == kind


@pytest.mark.parametrize(
    "text", ["Action: finish[" * 70_000, "action" + " " * 1_000_000, "Action: finish" + "[" * 1_000_000]
)
def test_a_megabyte_takes_no_time(text):
    begun = time.process_time()
    assert isinstance(parse_action(text, TOOLS), UnparsedAction)
    assert time.process_time() - begun < 2


@given(st.text(), st.text(alphabet=st.characters(exclude_characters="[]")))
def test_what_is_rendered_is_read_back(thought, input):
    if "action" not in (thought + input).lower():
        assert parse_action(render_turn(thought, "calculate", input), TOOLS) == Action("calculate", input.strip())


@given(st.text())
def test_any_text_gets_an_answer(text):
    assert isinstance(parse_action("Action: " + text, TOOLS), Action | UnparsedAction)


# ---- real turns ----


def real_turns(data: Path) -> Iterator[tuple[str, str]]:
    """(file, agent turn) of every HotpotQA and StrategyQA trajectory."""
    for episode in json.loads((data / "hotpotqa/react_gpt-3.5_messages.json").read_text()).values():
        yield from (("gpt-3.5", m["content"]) for m in episode["traj"] if m["role"] == "assistant")
    for line in (data / "hotpotqa/react_gpt-4_positives.jsonl").read_text().splitlines():
        yield from (("gpt-4", m["content"]) for m in json.loads(line)["messages"] if m["role"] == "assistant")
    for episode in json.loads((data / "hotpotqa/react_llama-2-7b_text.json").read_text()).values():
        text = episode["traj"].split("### Response:\n", 1)[1]
        turns = re.split(r"^Observation:.*(?:\n(?!Thought|Action).*)*\n?", text, flags=re.MULTILINE)
        yield from (("llama-2", turn) for turn in turns if turn.strip())
    for name in ("positive", "negative"):
        for row in json.loads((data / f"strategyqa/sample_{name}.json").read_text()):
            yield from ((name, m["content"]) for m in row["conversations"] if m["role"] == "assistant")


def test_what_real_models_write_is_read(data):
    read: Counter[str] = Counter()
    rejected: Counter[tuple[str, Any]] = Counter()
    for file, text in real_turns(data):
        action = parse_action(text, ("search",))
        if isinstance(action, Action):
            read[file] += 1
        else:
            rejected[file, action.kind] += 1
    assert read == {"gpt-3.5": 1240, "gpt-4": 1385, "llama-2": 1751, "positive": 146, "negative": 145}
    # "click[...]" and 26 times "reflect[...]", tools that were never there; one search whose bracket stays open
    assert rejected == {("gpt-3.5", "unknown_tool"): 1, ("llama-2", "unknown_tool"): 26, ("llama-2", "open_bracket"): 1}


def test_the_recorded_answers_are_the_ones_read(data):
    """Among all episodes whose last turn holds one action; where there are two, the original took the last."""

    def words(text: str) -> list[str]:
        return [word for word in re.sub(r"[^a-z0-9 ]", "", text.lower()).split() if word not in ("a", "an", "the")]

    n = 0
    for episode in json.loads((data / "hotpotqa/react_gpt-3.5_messages.json").read_text()).values():
        last = [m["content"] for m in episode["traj"] if m["role"] == "assistant"][-1]
        if last.count("Action:") == 1:
            action = parse_action(last, ("search",))
            assert isinstance(action, Action)
            assert words(action.input) == words(episode["pred"]), last
            n += 1
    assert n == 458


# ---- chains of thought ----


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42-7 = 35.\nAnswer: 35", "35"),
        ("42-7 = 35. Answer: 35", "35"),  # no line of its own
        ("Answer: 35", "35"),
        ("answer: 35  \n\n", "35"),
        ("**Answer:** 35", "35"),
        ("**Answer: 35**", "35"),
        ("### Final Answer: 35", "35"),
        ("The final answer: 35", "35"),
        ("Answer：35", "35"),  # full-width colon
        ("Answer:\n\n35\n", "35"),
        ("Answer: 18\nWait, no.\nAnswer: 35", "35"),  # the last counts
        ("Answer: 35\nThe answer is what was asked for.", "35"),  # a line of its own goes before prose
        ("Answer: 35\n\nQuestion: What is 1+1?\nAnswer: 2", "35"),  # goes on with a question of its own
        ("The answer is 35.\nQ: What is 1+1?\nA: 2", "35"),
        ("Question: What is 42-7?\nThat is 35.\nAnswer: 35", "35"),  # the question told again
        ("Let me repeat.\nQuestion: What is 42-7?\nAnswer: 35", "35"),
        ("42-7 = 35\n#### 35", "35"),
        ("42-7 = 35 #### 35", "35"),
        ("#### Step 1: subtract\n42-7 = 35\nAnswer: 35", "35"),  # a heading, no mark
        ("#### Step 1: subtract\nThe answer is 35", "35"),
        ("42-7 = 35\nA: 35", "35"),
        ("A: Ann has 42.\nB: Bob has 7.\nSo the answer is 35.", "35"),  # an item, no mark
        ("So the answer is 35.", "35"),
        ("So the answer is: **35**.", "35"),
        ("The answer is 3.5.", "3.5"),
        ("The answer is 35. That was easy.", "35"),
        ("The answer is J. R. R. Tolkien.", "J. R. R. Tolkien"),
        ("The answer is Mrs. Dalloway. It came out in 1925.", "Mrs. Dalloway"),
        ("The answer is Paris. It is in France.", "Paris"),
        ("My first answer is 18. My last answer is 35!", "35"),
        ("I am done: finish[35].", "35"),
        ("Thought: done.\nAction: finish[a[0]]", "a[0]"),
        ("So \\boxed{35}.", "35"),
        ("The answer is \\boxed{\\frac{1}{2}}", "1/2"),
        ("Answer: \\boxed{\\text{yes}}", "yes"),
        ("Answer: $35$", "35"),
        ("Answer: $35", "$35"),
        ("Answer: \\(35\\)", "35"),
        ("Answer: 35.", "35."),  # the scorer's to read
        ("Answer: Good Night. And Good Luck", "Good Night. And Good Luck"),
        ("Answer: unknown", "unknown"),
        ("Answer:", ""),
        ("Answer: 35\nAnswer:", "35"),
    ],
)
def test_answers_that_are_read(text, answer):
    assert parse_answer(text) == Action("finish", answer)


@pytest.mark.parametrize(
    "text", ["", "42-7 = 35", "The answer", "#### 35\nis it", "A: 35\nis it", "\\boxed{35", "finish[35", "answering: x"]
)
def test_a_chain_of_thought_without_an_answer(text):
    rejected = parse_answer(text)
    assert rejected == UnparsedAction("there is no line 'Answer: ...'")
    assert isinstance(rejected, UnparsedAction)
    assert rejected.kind == "no_answer"


@pytest.mark.parametrize(
    "text",
    [
        "Answer:\n" * 140_000,
        "answer is " * 100_000,
        "\\boxed{" * 140_000,
        "finish[" * 140_000,
        "#" * 1_000_000,
        "\nQ:" * 330_000,
        "Answer" + " " * 1_000_000,
        "The answer is " + "a." * 500_000,
    ],
)
def test_a_megabyte_of_thought_takes_no_time(text):
    begun = time.process_time()
    assert isinstance(parse_answer(text), Action | UnparsedAction)
    assert time.process_time() - begun < 1


def episode(*texts: str) -> tuple[Message, ...]:
    """Agent turns and observations in turn."""
    return tuple(Message("tool" if i % 2 else "assistant", text) for i, text in enumerate(texts))


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (
            (
                *("Thought: Subtract.\nAction: calculate[42-7]", "35"),
                *("Thought: Multiply.\nAction: calculate[35*2]", "70"),
                "Thought: Done.\nAction: finish[70]",
            ),
            "Subtract. 42-7 = 35. Multiply. 35*2 = 70. Done.\nAnswer: 70",
        ),
        (  # GSM8K: the calculation stands in the middle of a sentence
            (
                *("Thought: She has 16 - 3 =\nAction: calculate[16-3]", "13"),
                *("Thought: eggs and sells them for 13 * 2 = $\nAction: calculate[13*2]", "26"),
                "Thought: .\nAction: finish[26]",
            ),
            "She has 16 - 3 = 13 eggs and sells them for 13 * 2 = $26.\nAnswer: 26",
        ),
        (
            (
                *(
                    "Thought: I look for Kalo.\n\nAction: search[Kalo died]",
                    "#1 Kalo died in 1790. #2 The #1 hit is old",
                ),
                *("Thought: After: yes. Before: no\nAction: compare[1790, 1768]", "after"),
                "Action: finish[yes]",
            ),
            "I look for Kalo. Kalo died in 1790. The #1 hit is old. After: yes. Before: no. 1790, 1768: after.\n"
            "Answer: yes",
        ),
        (
            (
                *("Thought: Look.\nAction: search[x]", "Observation:  #1: Dogs\nbark. #2: Cats do not."),
                *("**Thought 2:** So. **Action 2:** finish[no]", "Observation: Episode finished, reward = False"),
            ),
            "Look. Dogs bark. Cats do not. So.\nAnswer: no",  # and no word of the reward
        ),
        (  # what the environment said of the turn's form has no place here
            ("Let me see", "Error: there is no line 'Action: tool[input]'.", "Action: finish[7]"),
            "Let me see.\nAnswer: 7",
        ),
        (
            ("Thought: Divide.\nAction: calculate[1/0]", "Error: division by zero.", "Action: finish[0]"),
            "Divide. 1/0 cannot be worked out: division by zero.\nAnswer: 0",
        ),
        (("Thought: Add.\nAction: calculate[1+1]", "2", "Thought: So two"), "Add. 1+1 = 2. So two."),  # never finished
        (("Thought: Add.\nAction: calculate[1+1]", "2"), "Add. 1+1 = 2."),
        (("Thought: I know.\nAction: finish[Yes]",), "I know.\nAnswer: Yes"),
        (("Action: finish[Yes]",), "Answer: Yes"),
        (("Action: finish[]",), "Answer: "),  # abstained, and so does what is read back
        (("Thought: hm\nso",), "hm\nso"),
    ],
)
def test_a_trajectory_as_a_chain_of_thought(texts, told):
    assert chain_of_thought(episode(*texts)) == (Message("assistant", told),)


def test_a_chain_of_thought_stays_as_it_is():
    solution = episode("Thought: 42-7  is\n35.\nAnswer: 35")
    assert chain_of_thought(solution) == solution
    assert chain_of_thought(()) == ()


def test_a_masked_turn_masks_the_whole():
    first, observation, last = episode("Thought: Add.\nAction: calculate[1+1]", "2", "Action: finish[2]")
    masked = Message("assistant", first.content, train=False)
    assert chain_of_thought((first, observation, last))[0].train
    assert not chain_of_thought((masked, observation, last))[0].train
    assert chain_of_thought((first, observation, last, masked))[0].train  # what follows the answer is left out


def test_the_answer_of_a_real_trajectory_stays_the_same(data):
    n = 0
    for line in (data / "hotpotqa/react_gpt-4_positives.jsonl").read_text().splitlines():
        messages = [Message(m["role"], m["content"]) for m in json.loads(line)["messages"][1:]]
        finish = parse_action(messages[-2].content, ("search",))
        (solution,) = chain_of_thought(messages)
        assert "reward =" not in solution.content
        assert parse_answer(solution.content) == finish
        n += 1
    assert n == 500


def test_real_solutions_are_answered_and_told_again(data):
    """GSM8K: a solution read as a ReAct trajectory and told as a chain of thought has the answer that it had."""
    for line in (data / "gsm8k/test.jsonl").read_text().splitlines():
        gold = json.loads(line)["answer"]
        assert parse_answer(gold) == Action("finish", gold.split("#### ")[1])
    answered = 0
    for line in (data / "gsm8k/example_model_solutions.jsonl").read_text().splitlines()[:200]:
        solution = json.loads(line)["6b_finetuning"]["solution"]
        messages, prediction = solution_messages(solution)
        (told,) = chain_of_thought(messages)
        assert parse_answer(told.content) == parse_answer(solution)
        answered += parse_answer(solution) == Action("finish", prediction or "")
    assert answered == 199  # one was cut off
    told = chain_of_thought(solution_messages("She has 5 + 2 = $<<5+2=7>>7 left\nThat is all\nA: 7")[0])
    assert told[0].content == "She has 5 + 2 = $7 left. That is all.\nAnswer: 7"


@given(st.text(alphabet=st.characters(exclude_characters="\\*`$[]{}#")))
def test_an_answer_is_read_back(answer):
    answer = " ".join(answer.split())
    if answer and "answer" not in answer.lower():
        assert parse_answer(render_solution("So it is.", answer)) == Action("finish", answer)
