import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nat.comparison.types import Caveat, Comparison, Contrast, Finding
from nat.comparison.verdict import no_verdict
from nat.core.questions import question_id
from nat.core.statistics import CrossedDifference
from nat.reporting import page as report_page
from nat.reporting.page import browser_data, chosen_questions, page
from nat.reporting.pictures.draw import Drawn, draw, found
from nat.runs.outcomes import Answer, save_rollouts
from nat.runs.packed import RunFiles
from nat.types import Message, Outcome, Question, Rollout
from tests.test_pictures import digits, make_arm, make_comparison, make_run, planted_sweep

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>&amp; \"q\" 🦜 \u202eאבג"


class Elements(HTMLParser):
    """A page's elements with their attributes, its text by the element it is in, and a check that they are closed."""

    VOID = ("meta", "img", "input", "br", "line", "circle")

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def prose(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Comparison:
    return planted_sweep(tmp_path_factory.mktemp("cells"), n_questions=60)


@pytest.fixture(scope="module")
def planted_page(planted, tmp_path_factory) -> str:
    return page(planted, draw(planted, tmp_path_factory.mktemp("pictures")), 40)


def data_of(text: str) -> dict[str, Any]:
    (block,) = re.findall(r'<script type="application/json" id="rollout-data">(.*?)</script>', text, re.DOTALL)
    return json.loads(block)


# ---- what the page says ----


def test_the_page_is_whole_and_fetches_nothing(planted, planted_page):
    elements = Elements(planted_page)
    for tag, attributes in elements.all:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, name)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "img" or attributes["alt"]
    assert "@import" not in planted_page
    assert "url(" not in "".join(elements.inside("style"))
    assert [tag for tag, _ in elements.all].count("h1") == 1
    ids = [attributes["id"] for _, attributes in elements.all if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.all:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        if (target := attributes.get("href") or "").startswith("#"):
            assert target[1:] in ids
    for finding in planted.findings:
        assert finding.question in elements.prose
    for words in (
        "✓ yes",
        "? undecided",
        "✗ no",
        *(caveat.text for caveat in planted.caveats),
        *planted.missing,
        "22 arms",
        "66 finished runs",
    ):
        assert words in elements.prose
    assert len(planted_page.encode()) < 1_500_000
    words = [(attributes["alt"] or "").partition(".")[0] for tag, attributes in elements.all if tag == "img"]
    names = ("negatives", "methods", "strategies", "failures", "loss", "cost")
    expected = [found()[name].ALTERNATIVE for name in names]
    assert [each for each in words if each in expected] == expected


def test_the_policy_allows_this_script_and_style_alone(planted_page):
    elements = Elements(planted_page)
    (policy,) = [attributes["content"] for tag, attributes in elements.all if "http-equiv" in attributes]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", planted_page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", planted_page, re.DOTALL)
    for name, source in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_what_was_measured_stands_in_the_tables(tmp_path):
    reference = make_arm(make_run(digits("1000"), "positive_only", "none", 10, 0, steps=300), label="alone")
    treatment = make_arm(make_run(digits("1110"), "nat", "suffix", 10, 20, timing={"training": 61.2}), label="with")
    difference = CrossedDifference(0.5, (0.125, 0.75), 0.004, 4, 1, 0.1, None)
    contrast = Contrast(treatment, reference, "test", difference, 0.012, (0.0625, 0.8125), "undecided")
    finding = Finding(
        "Use the failures?", "undecided", "Undecided. It was 0.750. More. And more.", contrast, (contrast,)
    )
    comparison = make_comparison(
        reference, treatment, contrasts=(contrast,), text_contrasts=(contrast,), findings=(finding,)
    )
    text = page(comparison, {}, 40)
    elements = Elements(text)
    cells = elements.inside("td")
    assert cells.count("+0.500") == 2
    assert cells.count("[+0.062, +0.812]") == 2
    assert cells.count("0.012") == 2
    assert {"0.250", "0.750", "300", "61", "4"} <= set(cells)
    prose = " ".join(elements.prose.split())
    assert "with against alone : +0.500 [+0.125, +0.750] , adjusted [+0.062, +0.812], p = 0.012 (Holm)" in prose
    assert "4 test questions, 1 seed" in prose
    assert "The same elsewhere (1)" in prose
    assert elements.inside("p").count("Undecided. It was 0.750.") == 1
    assert 'id="pictures"' not in text
    assert '<svg class="evidence-figure"' in text


def test_where_levels_differ_the_badge_says_that_it_depends():
    finding = Finding("Use the failures?", "undecided", "It depends: a yes, b no. More.", None, (), True)
    text = page(make_comparison(findings=(finding,)), {}, 40)
    elements = Elements(text)
    assert "± it depends" in elements.inside("span")
    assert "? undecided" not in elements.prose


def test_tables_hold_no_verdict(planted_page):
    elements = Elements(planted_page)
    assert "better?" not in elements.inside("th")
    assert sum("badge" in (attributes.get("class") or "") for _, attributes in elements.all) == 3
    assert "exploratory and holds no verdict" in elements.prose


def test_why_there_is_no_verdict_is_said_as_everywhere():
    alone = make_arm(make_run(digits("10"), "positive_only", "none", 10, 0))
    for arms in ((alone,), (make_arm(make_run(digits("10"))),)):
        assert no_verdict(arms) in Elements(page(make_comparison(*arms), {}, 40)).prose


def test_a_yes_beside_an_interval_that_holds_0_is_explained():
    arm = make_arm(make_run(digits("1000")), label="x")
    difference = CrossedDifference(0.1, (0.01, 0.2), 0.04, 4, 3, 0.1, 0.1)
    contrast = Contrast(arm, arm, "test", difference, 0.04, (-0.01, 0.2), "yes")
    comparison = make_comparison(arm, findings=(Finding("Use the failures?", "yes", "Yes. x.", contrast),))
    assert "the interval of the family holds 0 and the verdict is yes" in Elements(page(comparison, {}, 40)).prose


def test_nothing_to_show_is_said():
    prose = Elements(page(make_comparison(missing=("a: not started",)), {}, 40)).prose
    assert "No verdict" in prose
    assert "1 cell without results" in prose
    assert "No episode can be shown" in prose


def test_committed_cells_have_no_episodes_to_show(planted):
    bare = make_comparison(
        *(replace(arm, runs=tuple(replace(run, files=None) for run in arm.runs)) for arm in planted.arms)
    )
    assert browser_data(bare, 40) is None
    assert "No episode can be shown" in Elements(page(bare, {}, 40)).prose
    assert browser_data(planted, 0) is None


def test_names_from_outside_are_text():
    arm = make_arm(make_run(digits("10"), HOSTILE, HOSTILE, name=HOSTILE, setting={"a.b": HOSTILE}), label=HOSTILE)
    lone = "\ud800\x00\x1b"
    finding = Finding(HOSTILE, "no", f"{HOSTILE}{lone}", None)
    comparison = make_comparison(arm, findings=(finding,), caveats=(Caveat("note", HOSTILE),), missing=(HOSTILE,))
    comparison = replace(comparison, title=HOSTILE)
    text = page(comparison, {}, 40)
    text.encode()  # a lone surrogate could not be written
    assert "window.hacked = 1</script>" not in text
    elements = Elements(text)
    assert [tag for tag, _ in elements.all].count("script") == 1
    assert not [tag for tag, _ in elements.all if tag == "img"]
    assert elements.inside("title") == [HOSTILE]
    assert HOSTILE in elements.prose


def all_of(text: str, directory: Path) -> Elements:
    """A report of which every text from outside is `text`."""
    picture = directory / "picture.svg"
    picture.write_text("<svg/>")
    run = make_run(digits("1100"), text, text, 10, 20, name=text, setting={"a.b": text})
    arm = make_arm(run, label=text)
    difference = CrossedDifference(0.5, (0.125, 0.75), 0.004, 4, 1, 0.1, None)
    contrast = Contrast(arm, arm, text, difference, 0.012, (0.0625, 0.8125), "undecided")
    finding = Finding(text, "undecided", text, contrast, (contrast,))
    comparison = make_comparison(
        arm,
        contrasts=(contrast,),
        text_contrasts=(contrast,),
        findings=(finding,),
        caveats=(Caveat("note", text),),
        missing=(text,),
    )
    return Elements(page(replace(comparison, title=text), {text: Drawn(picture, picture, text, text)}, 40))


def same_but_for(text: str, elements: Elements, plain: str, others: Elements) -> int:
    """Checks that the first page has the second's elements, with `text` where that has `plain`, in texts and attributes
    alike; returns how many there are."""
    assert [(tag, [*attributes]) for tag, attributes in elements.all] == [(tag, [*each]) for tag, each in others.all]
    pairs = [(one[1], other[1]) for one, other in zip(elements.texts, others.texts, strict=True)]
    for (_, one), (_, other) in zip(elements.all, others.all, strict=True):
        pairs += [(one[name] or "", value or "") for name, value in other.items()]
    pairs = [(one, other) for one, other in pairs if plain in other]
    for one, other in pairs:
        # Lists and tool calls are shown as JSON, which escapes quotes.
        assert one.replace('\\"', '"') == other.replace(plain, text)
    return len(pairs)


MARKUP = "<script>window.hacked = 1<img src='x' class=\"y\">&amp;<!--"
PLAIN = "Any text that is as long as the other and has no mark up."
assert len(MARKUP) == len(PLAIN)


def test_no_text_from_outside_changes_what_the_page_is_made_of(tmp_path):
    assert same_but_for(MARKUP, all_of(MARKUP, tmp_path), PLAIN, all_of(PLAIN, tmp_path)) == 30


# ---- the roll-outs in it ----


def write_run(directory: Path, turns: Mapping[str, list[str]], method: str = "nat", seed: int = 0):
    """A run whose agent said `turns[question]`, an observation of the same length after each; "1" last is a success."""
    directory.mkdir(parents=True)
    rollouts, answers = [], {}
    for question, said in turns.items():
        success = said[-1] == "1"
        messages = [message for text in said for message in (Message("assistant", text), Message("tool", text))][:-1]
        failure = None if success else "wrong_answer"
        outcome = Outcome(success, float(success), failure, said[-1], "1")
        rollouts.append(Rollout(Question(question, question, "1"), tuple(messages), outcome))
        answers[question_id(question)] = Answer(success, float(success), failure, len(said))
    save_rollouts(directory / "rollouts.jsonl", rollouts)
    return make_run(answers, method, files=RunFiles(directory.name, directory), seed=seed, name=directory.name)


def test_questions_on_which_arms_disagree_come_first(tmp_path):
    first = make_run(digits("110011"))
    second = make_run(digits("100111"))
    chosen = chosen_questions([first, second], "test", 4)
    assert set(chosen[:2]) == {"q1", "q3"}
    assert len(chosen) == 4
    assert chosen == chosen_questions([second, first], "test", 4)
    assert chosen_questions([first, second], "validation", 4) == []


def test_what_recurs_is_stored_once(tmp_path):
    said = {"Q one": ["go", "1"], "Q two": ["go", "2"]}
    arms = [make_arm(write_run(tmp_path / name, said, name), label=name) for name in ("nut", "nat")]
    data = browser_data(make_comparison(*arms), 40)
    assert data is not None
    assert data["texts"] in (["go", "1", "2"], ["go", "2", "1"])
    assert len(data["episodes"]) == 2
    assert [arm["label"] for arm in data["arms"]] == ["nut", "nat"]
    assert data["seeds"] == [0]
    assert data["shown"] == [0, 1]
    by_text = {question["text"]: question for question in data["questions"]}
    (place,) = by_text["Q one"]["episodes"][0]
    assert by_text["Q one"]["episodes"] == [[place], [place]]
    episode = data["episodes"][place]
    assert [(role, data["texts"][index]) for role, index in episode.pop("messages")] == [
        ("assistant", "go"),
        ("tool", "go"),
        ("assistant", "1"),
    ]
    assert episode == {"success": True, "failure": None, "prediction": "1", "score": 1.0}


def test_seeds_that_an_arm_lacks_have_no_episode(tmp_path):
    said = {"Q": ["1"]}
    one = make_arm(write_run(tmp_path / "a", said, "nut", 1), label="one")
    two = make_arm(
        write_run(tmp_path / "b", said, "nat", 0), write_run(tmp_path / "c", {"Q": ["2"]}, "nat", 1), label="two"
    )
    data = browser_data(make_comparison(one, two), 40)
    assert data is not None
    assert data["seeds"] == [0, 1]
    assert data["questions"][0]["episodes"] == [[None, 0], [0, 1]]


def test_long_episodes_are_cut_visibly(tmp_path):
    said = {"Q": ["x" * 1600, *(str(number) for number in range(50)), "1"]}
    data = browser_data(make_comparison(make_arm(write_run(tmp_path / "a", said))), 40)
    assert data is not None
    assert data["texts"][0] == ["x" * 1500, 100]
    (episode,) = data["episodes"]
    # 52 turns and 51 observations are 103 messages; 30 of the beginning and 10 of the end are kept.
    assert len(episode["messages"]) == 41
    assert episode["messages"][30] == ("skipped", 63)


def test_the_page_stays_small_whatever_was_said(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "BROWSER_BYTES", 20_000)
    said = {f"Q {number}": [f"{number} {'word ' * 300}", "1"] for number in range(12)}
    arm = make_arm(write_run(tmp_path / "a", said), write_run(tmp_path / "b", said, seed=1))
    data = browser_data(make_comparison(arm), 12)
    assert data is not None
    assert data["seeds"] == ["first of each arm"]
    assert len(data["questions"]) == 12
    assert data["texts"][0][1] > 1000
    monkeypatch.setattr(report_page, "BROWSER_BYTES", 2000)
    smaller = browser_data(make_comparison(arm), 12)
    assert smaller is not None
    assert 0 < len(smaller["questions"]) < 12
    assert len(json.dumps(smaller)) < 2200


def test_broken_lines_and_lone_surrogates_are_survived(tmp_path):
    run = write_run(tmp_path / "a", {"Q one": ["1"], "Q two": ["2"]})
    path = tmp_path / "a" / "rollouts.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(
        "\n".join(["[1]", first.replace('"content": "1"', '"content": "\\ud800 1"'), "", '{"question": 7}'])
    )
    data = browser_data(make_comparison(make_arm(run)), 40)
    assert data is not None
    assert [question["text"] for question in data["questions"]] == ["Q one"]
    assert data["texts"] == ["\N{REPLACEMENT CHARACTER} 1"]
    assert second


def test_what_models_wrote_ends_no_script(tmp_path):
    comparison = make_comparison(make_arm(write_run(tmp_path / "a", {f"Q {HOSTILE}": [HOSTILE, "1"]})))
    text = page(comparison, {}, 40)
    assert [tag for tag, _ in Elements(text).all].count("script") == 2
    data = data_of(text)
    assert data["questions"][0]["text"] == f"Q {HOSTILE}"
    assert HOSTILE in data["texts"]


# ---- in a browser ----

CHROMIUM = os.environ.get("NAT_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium (chromium, chromium-browser, google-chrome, or its path in NAT_CHROMIUM)"
)

# Every visible text's contrast with what is behind it (WCAG 2.2, "relative luminance"), and what sticks out sideways.
MEASURE = r"""
const rgb = (text) => text.match(/[\d.]+/g).map(Number);
const luminance = ([r, g, b]) => {
  const linear = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const behind = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const colour = rgb(view.getComputedStyle(each).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const seen = [...page.body.querySelectorAll("*")].filter((each) => each.getClientRects().length);
const texts = seen.filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
const contrasts = texts.filter((each) => !each.closest("svg, option")).map((each) => {
  const [a, b] = [luminance(rgb(view.getComputedStyle(each).color)), luminance(behind(each))].sort((x, y) => y - x);
  return [(a + 0.05) / (b + 0.05), each.tagName + "." + each.className + " " + each.textContent.slice(0, 30)];
});
const outside = seen.filter((each) => !each.closest(".scroll, .skip, #questions, #arm-choice"))
  .filter((each) => each.getBoundingClientRect().right > view.innerWidth + 1)
  .map((each) => each.tagName + "." + each.className);
const images = [...page.images].map((image) => image.complete && image.naturalWidth > 0);
return {
  width: view.innerWidth, scrollWidth: page.documentElement.scrollWidth, outside, images,
  contrast: Math.min(...contrasts.map(([value]) => value)), worst: contrasts.sort((x, y) => x[0] - y[0])[0],
  back: view.getComputedStyle(page.body).backgroundColor, n_texts: texts.length,
  small: texts.filter((each) => parseFloat(view.getComputedStyle(each).fontSize) < 11 && !each.closest("svg")).length,
  browser: !page.getElementById("browser").hidden,
};
"""


def in_browser(directory: Path, text: str, script: str, width: int = 1280, dark: bool = False) -> Any:
    """What `script` returns, run beside the page in a frame of this width; it sees `page`, `view` and `get(id)`."""
    assert CHROMIUM is not None
    (directory / "report.html").write_text(text, encoding="utf-8")
    (directory / "frame.html").write_text(
        f"""<!doctype html><meta charset="utf-8"><iframe id="frame" width="{width}" height="900"></iframe>
<pre id="result"></pre><script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const page = frame.contentDocument, view = frame.contentWindow, get = (id) => page.getElementById(id);
  let result;
  try {{ result = (() => {{ {script} }})(); }} catch (error) {{ result = {{ error: String(error.stack) }}; }}
  document.getElementById("result").textContent = JSON.stringify(result);
}};
frame.src = "report.html";
</script>""",
        encoding="utf-8",
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
    command += [f"--user-data-dir={directory / 'profile'}", "--allow-file-access-from-files", "--window-size=1400,1000"]
    # 0 is dark and 1 is light; --force-dark-mode would recolour the page instead of asking it for its dark colours.
    command += [f"--blink-settings=preferredColorScheme={int(not dark)}", "--virtual-time-budget=10000", "--dump-dom"]
    command.append((directory / "frame.html").as_uri())
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=240)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found and found[1], f"{done.returncode}: {done.stderr[-2000:]}"
    result = json.loads(html.unescape(found[1]))
    assert not (isinstance(result, dict) and "error" in result), result
    return result


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desktop"])
def test_the_page_fits_and_can_be_read(planted_page, tmp_path, width, dark):
    seen = in_browser(tmp_path, planted_page, MEASURE, width, dark)
    assert (seen["width"], seen["scrollWidth"], seen["outside"]) == (width, width, [])
    assert seen["n_texts"] > 500
    assert seen["contrast"] >= 4.5, seen["worst"]
    assert seen["back"] == ("rgb(20, 22, 25)" if dark else "rgb(250, 249, 246)")
    assert seen["images"] == [True] * 6
    assert seen["small"] == 0
    assert seen["browser"]


@needs_chromium
def test_tables_sort_and_the_browser_filters(planted, planted_page, tmp_path):
    data = data_of(planted_page)
    script = """
    const table = get("arms").querySelector("table"), head = table.tHead.rows[0].cells[1];
    const column = (place) => [...table.tBodies[0].rows].map((row) => row.cells[place].dataset.sort);
    const sorted = [];
    for (let click = 0; click < 2; click++) {
      head.querySelector("button").click();
      sorted.push([head.getAttribute("aria-sort"), column(1)]);
    }
    const difference = table.tHead.rows[0].cells[4];
    difference.querySelector("button").click();
    const differences = column(4);
    const count = () => [get("count").textContent, get("questions").children.length];
    const set = (id, value, event) => { get(id).value = value; get(id).dispatchEvent(new view.Event(event)); };
    const title = () => get("episodes").querySelector("h3").textContent;
    const columns = () => [...get("episodes").querySelectorAll(".episode h4")].map((each) => each.textContent);
    const badges = () => [...get("episodes").querySelectorAll(".episode .badge")].map((each) => each.textContent);
    const result = { sorted, head: head.textContent, differences, first: count(), filter: get("filter").value };
    result.columns = columns();
    result.badges = badges();
    set("filter", "all", "change"); result.all = count();
    set("filter", `only-${DATA.shown[2]}`, "change"); result.only = count();
    set("filter", "none", "change"); result.none = count();
    set("filter", "all", "change");
    set("search", "ADA calculate[25+8]", "input"); result.search = count();
    set("search", "no such words", "input"); result.nothing = [count(), get("episodes").textContent];
    set("search", "", "input");
    get("questions").querySelectorAll("button")[1].click();
    result.second = [title(), get("questions").querySelectorAll("[aria-current=true]").length];
    get("episodes").querySelector(".quiet-button").click(); result.previous = title();
    get("arm-choice").querySelectorAll("input")[0].click(); result.more = columns();
    set("seed", "2", "change"); result.seed2 = badges();
    const kinds = [...get("episodes").querySelectorAll(".episode li .kind")];
    result.turn = kinds.slice(0, 3).map((each) => each.textContent);
    return result;
    """.replace("DATA", json.dumps({"shown": data["shown"]}))
    seen = in_browser(tmp_path, planted_page, script)
    (order, values), (other_order, other_values) = seen["sorted"]
    assert (order, other_order) == ("descending", "ascending")
    numbers = [float(value) for value in values]
    assert numbers == sorted(numbers, reverse=True)
    assert [float(value) for value in other_values] == sorted(numbers)
    assert seen["head"] == "success"
    assert seen["differences"][-2:] == ["", ""]  # the references have none: last

    def outcomes(question: Mapping[str, Any], seed: int = 0) -> list[bool]:
        return [data["episodes"][question["episodes"][arm][seed]]["success"] for arm in data["shown"]]

    disagree = sum(len(set(outcomes(question))) == 2 for question in data["questions"])
    only = sum(outcomes(question) == [False, False, True] for question in data["questions"])
    none = sum(not any(outcomes(question)) for question in data["questions"])
    assert 0 < only < disagree < 40
    assert seen["first"] == [f"{disagree} of 40 questions", disagree]
    assert seen["filter"] == "disagree"
    assert seen["all"] == ["40 of 40 questions", 40]
    assert seen["only"] == [f"{only} of 40 questions", only]
    assert seen["none"] == [f"{none} of 40 questions", none]
    assert seen["columns"] == [data["arms"][arm]["label"] for arm in data["shown"]]
    assert len({badge == "✓ success" for badge in seen["badges"]}) == 2
    searched = sum("owns 25 " in question["text"] for question in data["questions"])
    assert seen["search"] == [f"{searched} of 40 questions", searched]
    assert seen["nothing"][0] == ["0 of 40 questions", 0]
    assert "No question passes" in seen["nothing"][1]
    assert seen["second"] == ["Question 2 of 40", 1]
    assert seen["previous"] == "Question 1 of 40"
    assert seen["more"] == [data["arms"][0]["label"], *seen["columns"]]
    last_seed = [data["episodes"][data["questions"][0]["episodes"][arm][2]]["success"] for arm in [0, *data["shown"]]]
    assert [badge == "✓ success" for badge in seen["seed2"]] == last_seed
    assert seen["turn"] == ["Thought", "Action", "Observation"]


@needs_chromium
def test_what_models_wrote_is_shown_and_never_run(tmp_path):
    wide = "W" * 3000
    said = {f"Q {HOSTILE} {wide}": [f"Thought: {HOSTILE}\nAction: search[{wide}]", HOSTILE]}
    arm = make_arm(write_run(tmp_path / "a", said), label=f"{HOSTILE} {wide[:200]}")
    finding = Finding(HOSTILE, "yes", f"{HOSTILE} {wide}", None)
    comparison = replace(
        make_comparison(arm, findings=(finding,), caveats=(Caveat("note", wide), Caveat("note", HOSTILE))),
        title=f"{HOSTILE} {wide}",
    )
    script = """
    return {
      hacked: view.hacked ?? null, images: page.images.length, scrollWidth: page.documentElement.scrollWidth,
      parts: [...page.querySelectorAll(".turns .part")].map((each) => each.textContent),
      question: page.querySelector(".question .text").textContent, title: page.title,
    };
    """
    seen = in_browser(tmp_path, page(comparison, {}, 40), script, width=390)
    assert (seen["hacked"], seen["images"], seen["scrollWidth"]) == (None, 0, 390)
    assert seen["parts"][0] == HOSTILE
    assert seen["parts"][1].startswith("search[WWW")
    assert seen["question"].startswith(f"Q {HOSTILE}")
    assert seen["title"].startswith(HOSTILE[:40])
