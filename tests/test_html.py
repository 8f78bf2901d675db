import json
import re

import jinja2
import pytest

from nat.core.html import own, script_json, storable, templates
from tests.conftest import ROOT

ASSETS = ROOT / "nat" / "assets"


def test_what_is_put_in_is_made_legible_and_escaped():
    made = templates(lambda value: value.lower() if isinstance(value, str) else value, twice=lambda n: 2 * n)
    template = made.from_string('<p title="{{ name }}">{{ name }} {{ 3 | twice }}</p>')
    assert template.render(name="<B>\"'&") == ('<p title="&lt;b&gt;&#34;&#39;&amp;">&lt;b&gt;&#34;&#39;&amp; 6</p>')


def test_a_name_without_a_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        templates(lambda value: value).from_string("{{ name }}").render()


def test_only_our_own_files_and_json_stand_in_a_page_as_they_are():
    pages = "".join(path.read_text() for path in ASSETS.glob("*.html.jinja"))
    found = set(re.findall(r"\{\{[^}]*safe[^}]*\}\}", pages))
    assert found == {"{{ own.style | safe }}", "{{ own.script | safe }}", "{{ rollout_data | safe }}"}
    assert "autoescape" not in pages


def test_a_page_allows_its_own_style_and_script():
    its = own(["report.css", "audit.css"], ["tables.js"])
    assert its.style == (ASSETS / "report.css").read_text() + (ASSETS / "audit.css").read_text()
    assert its.script == (ASSETS / "tables.js").read_text()
    # SHA-256 of "" would mean that nothing was hashed.
    assert "47DEQpj8HBSa" not in its.policy
    assert its.policy.startswith("default-src 'none'; ")
    assert its.policy.count("'sha256-") == 2


def test_json_in_a_page_ends_no_script_and_opens_no_comment():
    value = {"a": "</script><!-- <script>", "é": [1, None]}
    text = script_json(value)
    assert text == '{"a":"\\u003c/script>\\u003c!-- \\u003cscript>","é":[1,null]}'
    assert json.loads(text) == value


def test_lone_surrogates_are_replaced_and_pairs_joined():
    assert storable("a\ud800b \ud83e\udd9c \r\n é") == "a\N{REPLACEMENT CHARACTER}b 🦜 \r\n é"
