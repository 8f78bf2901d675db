import base64
import hashlib
import re
from dataclasses import replace

import pytest

from nat.auditing import page as page_module
from nat.auditing.findings import Finding, Lengths, Shown, Sighting
from nat.auditing.page import page
from nat.core.rows.bad import DroppedRow
from nat.types import Message, Outcome, Trajectory
from tests.sample_audits_for_tests import EMPTY, HOSTILE, LEAKED, TYPICAL, hostile
from tests.test_report_page import MARKUP, MEASURE, PLAIN, Elements, in_browser, needs_chromium, same_but_for


@pytest.fixture(scope="module")
def typical() -> str:
    return page(TYPICAL)


def prose(text: str) -> str:
    return " ".join(Elements(text).prose.split())


def shown_with(*messages: Message, found: tuple[tuple[str, Sighting], ...] = ()) -> str:
    trajectory = Trajectory("t", "q", "Q?", messages, Outcome(True, 1.0))
    return page(replace(TYPICAL, shown=(Shown("a.jsonl:1", trajectory, found),)))


# ---- what the page says ----


@pytest.mark.parametrize("audit", [TYPICAL, EMPTY, hostile(HOSTILE)], ids=["typical", "empty", "hostile"])
def test_the_page_is_whole_and_fetches_nothing(audit):
    text = page(audit)
    elements = Elements(text)
    for tag, attributes in elements.all:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, name)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "@import" not in text
    assert "url(" not in "".join(elements.inside("style"))
    tags = [tag for tag, _ in elements.all]
    assert [tags.count(tag) for tag in ("h1", "main", "nav", "script", "img")] == [1, 1, 1, 1, 0]
    assert tags.count("table") == tags.count("caption")
    ids = [attributes["id"] for _, attributes in elements.all if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.all:
        assert (attributes.get("aria-labelledby") or ids[0]) in ids
        if (target := attributes.get("href") or "").startswith("#"):
            assert target[1:] in ids


def test_the_policy_allows_this_script_and_style_alone(typical):
    (policy,) = [attributes["content"] for _, attributes in Elements(typical).all if "http-equiv" in attributes]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    for name in ("style", "script"):
        (source,) = re.findall(rf"<{name}>(.*?)</{name}>", typical, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_everything_of_the_audit_stands_on_the_page(typical):
    said = prose(typical)
    for finding in TYPICAL.findings:
        for words in (finding.name.replace("_", " "), finding.says, finding.remedy):
            assert words in said
        for sighting in finding.sightings:
            assert sighting.where in said
            assert sighting.id in said
    for words in (
        "NOT READY: 2 errors (label_leak, evaluation_overlap). Put them right first.",
        "2,990 of 5,965 trajectories (50.1%)", "All left out of clean.jsonl by the rule of this name.",
        "llama-2-7b 2,489 706 1,783 28.4%", "wrong_answer 1,200 60.9%", "12 33 1.1%", "both 1,100 35.4%",
        "tokens successes 1,000 412 890 2,210", "limit 2,048", "sample of 1,500 trajectories",
        "exact_duplicates 120 2%", "not_json 4 11.4%", "Bad rows (3 of 35; all of them in dropped.jsonl)",
        "data/hotpotqa/react_gpt-4_positives.jsonl:991 not_json line ends in the middle of a string",
        "quality.max_per_question none", "audit.near 0.9",
    ):  # fmt: skip
        assert words in said
    assert "Interrupted." not in said
    assert "Interrupted." in prose(page(replace(TYPICAL, is_partial=True)))
    assert "Nothing was found." in prose(page(EMPTY))


def test_turns_say_whether_they_are_trained(typical):
    roles = re.findall(r'<li class="(\w+)"><div class="role"><span>(\d+)</span><b>(\w+)</b>', typical)
    assert roles[:4] == [
        ("trained", "1", "assistant"), ("read", "2", "tool"), ("masked", "3", "assistant"), ("read", "4", "tool"),
    ]  # fmt: skip
    assert "Kiss and Tell" in prose(typical)  # of a tool call


def test_what_was_found_is_marked_where_it_stands(typical):
    assert "<mark>reward = True<small>label leak</small></mark>" in typical
    assert "Observation: Episode finished, <mark>reward = True</mark>" in typical  # the excerpt
    assert 'href="#trajectory-0">shown whole below' in typical
    assert "Found in it as a whole: evaluation overlap" in prose(typical)


def test_marks_that_overlap_are_one_and_a_whole_message_is_named():
    found = (
        ("secret", Sighting("a.jsonl:1", "t", "", 0, (2, 5))),
        ("odd_characters", Sighting("a.jsonl:1", "t", "", 0, (4, 7))),
        ("empty_turn", Sighting("a.jsonl:1", "t", "", 1)),
        ("unfinished", Sighting("a.jsonl:1", "t", "", 9, (0, 5))),  # no such message
    )
    text = shown_with(Message("assistant", "0123456789"), Message("assistant", ""), found=found)
    assert '<p class="content">01<mark>23456<small>secret, odd characters</small></mark>789</p>' in text
    assert "<mark>empty turn</mark></div>" in text
    assert "<li>unfinished</li>" in text


def test_a_long_message_is_cut_around_what_was_found_in_it():
    content = "a" * 10_000 + "NEEDLE" + "b" * 10_000
    found = (("secret", Sighting("a.jsonl:1", "t", "", 0, (10_000, 10_006))),)
    text = shown_with(Message("assistant", content), found=found)
    assert f"{'a' * 4000}<span" in text
    assert f"{'a' * 120}<mark>NEEDLE<small>secret</small></mark>{'b' * 120}<span" in text
    assert re.findall(r"([\d,]+) characters are left out here", text) == ["5,880", "9,880"]
    assert text.count("a" * 4001) == 0


def test_the_middle_of_a_long_trajectory_is_left_out_but_for_what_was_found():
    found = (("secret", Sighting("a.jsonl:1", "t", "", 50, (0, 1))),)
    text = shown_with(*(Message("assistant", f"turn {n}") for n in range(100)), found=found)
    assert re.findall(r">(\d+) messages left out here", text) == ["20", "39"]
    assert re.findall(r'class="role"><span>(\d+)</span>', text)[28:33] == ["29", "30", "51", "91", "92"]


def test_the_page_stays_small_whatever_there_is(monkeypatch):
    monkeypatch.setattr(page_module, "TRAJECTORIES_BYTES", 30_000)
    long = replace(LEAKED, messages=(Message("assistant", "🦜" * 5000),) * 100, question="q" * 9000)
    sighting = Sighting("w" * 900, "i" * 900, "x" * 9000)
    audit = replace(
        TYPICAL,
        shown=tuple(Shown(f"a.jsonl:{n}", replace(long, id=f"t{n}")) for n in range(4)),
        by_source={f"source {n}": (1, 1) for n in range(5000)},
        bad_rows=tuple(DroppedRow("r" * 2000, "not_json", "d" * 9000) for _ in range(1000)),
        findings=(Finding("f", "error", 900, 900, "rows", "s" * 9000, "", (sighting,) * 900, {"k": ["v"] * 9000}),),
    )
    text = page(audit)
    assert len(text.encode()) < 1_500_000
    assert "0 of 4 are shown whole" in prose(text)
    assert "and 4,700 more, in audit.json" in prose(text)
    assert "… 7,000 more characters" in prose(text)


def test_distributions_of_any_shape_are_drawn():
    lengths = {
        "turns": {"success": Lengths("turns", 2, 1.5, 2, 2, (0, 1, 2, float("inf")), (0, 1, 1))},
        "tokens": {"success": Lengths("tokens", 0, 0, 0, 0, (), ()), "failure": Lengths("tokens", 0, 0, 0, 0, (), ())},
        "characters": {"failure": Lengths("characters", 1, 7, 7, 7, (7, 7), (1,))},
    }
    text = page(replace(TYPICAL, lengths=lengths))
    assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", text))
    assert "1 to 2: 1 (50%)" in text
    assert "2 to ∞: 1 (50%)" in text


def test_details_of_any_shape_are_shown():
    features = {"turns": {"auc": 0.44, "ci95": [0.41, 0.47]}, "source": {"auc": 0.8, "success_rates": {"a": 1.0}}}
    finding = replace(TYPICAL.findings[0], details={"features": features, "limit": 4096, "over_it": {}})
    said = prose(page(replace(TYPICAL, findings=(finding,))))
    assert "limit 4,096 over it none" in said
    assert "Details" not in said
    alone = replace(finding, details={"features": features})
    assert "features value auc" in prose(page(replace(TYPICAL, findings=(alone,))))
    assert "features value auc ci95 success rates turns 0.44 0.41, 0.47 - source 0.8 - a: 1 Where" in said


# ---- text from outside ----


def test_text_from_outside_is_text_and_what_cannot_be_seen_is_shown():
    text = page(hostile(HOSTILE))
    body = re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)
    assert "<script" not in body
    assert "<img" not in body
    assert not set(body) & {"\x1b", "\0", "\u202e"}
    assert '<span class="unseen">U+202E</span>אבג<span class="unseen">U+001B</span>[31m' in body
    # title, heading, ... : every field shows it
    assert body.count("&lt;/script&gt;&lt;script&gt;window.hacked") > 40


def test_no_text_from_outside_changes_what_the_page_is_made_of():
    pages = [Elements(page(hostile(text))) for text in (MARKUP, PLAIN)]
    assert same_but_for(MARKUP, pages[0], PLAIN, pages[1]) == 77


def test_lone_surrogates_do_not_break_the_file():
    text = page(hostile("a\ud800b"))
    assert "U+D800" in text
    text.encode()


# ---- in a browser ----


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desktop"])
def test_the_page_fits_and_can_be_read(typical, tmp_path, width, dark):
    script = 'page.querySelectorAll("details").forEach((each) => { each.open = true; });' + MEASURE
    script = script.replace('browser: !page.getElementById("browser").hidden,', "")
    seen = in_browser(tmp_path, typical, script, width, dark)
    assert (seen["width"], seen["scrollWidth"], seen["outside"]) == (width, width, [])
    assert seen["n_texts"] > 300
    assert seen["contrast"] >= 4.5, seen["worst"]
    assert seen["back"] == ("rgb(20, 22, 25)" if dark else "rgb(250, 249, 246)")
    assert seen["small"] == 0


@pytest.mark.slow
@needs_chromium
def test_tables_sort_findings_filter_and_examples_open(typical, tmp_path):
    script = """
    const table = page.querySelector("#contents table"), head = table.tHead.rows[0].cells[4];
    const column = () => [...table.tBodies[0].rows].map((row) => row.cells[4].textContent);
    const button = head.querySelector("button"), sorted = [];
    for (let click = 0; click < 2; click++) {
      button.click(); sorted.push([head.getAttribute("aria-sort"), ...column()]);
    }
    const inputs = [...page.querySelectorAll("#severity-filter input")];
    const boxes = Object.fromEntries(inputs.map((box) => [box.value, box]));
    const count = () => [get("findings-count").textContent,
      [...page.querySelectorAll("details.found")].filter((each) => each.getClientRects().length).length];
    const result = { sorted, all: count() };
    boxes.note.click(); boxes.warning.click(); result.errors = count();
    const [first_open, second_open] = page.querySelectorAll("details.found");
    result.open = [first_open.open, second_open.open];
    second_open.querySelector("summary").click(); result.open.push(second_open.open);
    page.querySelector("button[data-all=examples]").click();
    result.examples = [...page.querySelectorAll("details.trajectory")].map((each) => each.open);
    return result;
    """
    seen = in_browser(tmp_path, typical, script)
    assert seen["sorted"] == [["descending", "20", "11", "4"], ["ascending", "4", "11", "20"]]
    assert seen["all"] == ["9 of 9 findings shown", 9]
    assert seen["errors"] == ["2 of 9 findings shown", 2]
    assert seen["open"] == [True, False, True]
    assert seen["examples"] == [True, True]


@pytest.mark.slow
@needs_chromium
def test_what_is_in_the_files_is_shown_and_never_run(tmp_path):
    script = """
    return { hacked: view.hacked ?? null, images: page.images.length, scrollWidth: page.documentElement.scrollWidth,
      content: page.querySelector(".messages mark").firstChild.textContent,
      wide: [...page.body.querySelectorAll("*")].filter((each) => !each.closest(".scroll, .skip"))
        .filter((each) => each.getBoundingClientRect().right > view.innerWidth + 1)
        .map((each) => each.outerHTML.slice(0, 80)) };
    """
    wide = f"{HOSTILE} {'W' * 3000}"
    seen = in_browser(tmp_path, page(hostile(wide)), script, width=390)
    assert (seen["hacked"], seen["images"], seen["wide"], seen["scrollWidth"]) == (None, 0, [], 390)
    assert seen["content"].startswith("</script><script>window.hacked = 1</script><img")
