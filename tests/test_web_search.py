"""Web search against a local HTTP server with faults: retries, what stops a run, what is kept, and where no key is."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nat.agents.scoring import numeric_score
from nat.agents.turns import take_turn
from nat.search import web as web_search
from nat.search.bm25 import NOTHING, Document
from nat.search.web import MAX_WAIT, WebSearch, WebSearchError, documents, make_tool, read_key
from nat.types import Environment, Question, RequestError, ToolError

KEY = "k3y-0123456789abcdef-secret"
VARIABLE = "NAT_TEST_SEARCH_KEY"
FOUND = {"organic": [{"title": "American Dad!", "link": "https://x", "snippet": "Created by Seth MacFarlane."}]}
OBSERVATION = "#1 American Dad!: Created by Seth MacFarlane."


class Server:
    """Answers request number n with `answers[n]`, the last one from then on: a status, headers and text, or a fault."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.requests: list[dict[str, Any]] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with server.lock:
                    answer = server.answers[min(len(server.requests), len(server.answers) - 1)]
                    server.requests.append({"key": self.headers["X-API-KEY"], "body": json.loads(body)})
                    server.under_way += 1
                    server.most_under_way = max(server.most_under_way, server.under_way)
                if answer == "pause":
                    time.sleep(0.1)
                    answer = (200, {}, FOUND)
                with server.lock:  # before it is answered: with its answer the client may ask again at once
                    server.under_way -= 1
                server.answer(self, answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/search"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler, answer: Any) -> None:
        if answer == "cut":  # in the middle of the body
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"organic": [')
            handler.wfile.flush()
            handler.connection.close()
            return
        if answer == "closed":  # before a word was said
            handler.connection.close()
            return
        if answer == "silent":
            time.sleep(10)
            return
        if answer == "drip":  # a byte now and then: no single wait is long
            handler.send_response(200)
            handler.send_header("Content-Length", "200")
            handler.end_headers()
            for _ in range(200):
                with suppress(OSError):  # nobody listens any more
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                time.sleep(0.05)
            return
        status, headers, content = answer
        text = content if isinstance(content, str) else json.dumps(content)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(text.encode())))
        handler.end_headers()
        handler.wfile.write(text.encode())


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv(VARIABLE, KEY)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*answers: Any) -> Server:
        servers.append(Server(list(answers)))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def client(server: Server | None = None, waits: list[float] | None = None, **changes: Any) -> WebSearch:
    waits = [] if waits is None else waits
    given: dict[str, Any] = {
        "url": server.url if server else "http://127.0.0.1:1/search",
        "key_variable": VARIABLE,
        "results": 3,
        "parameters": {},
        "timeout": 5.0,
        "attempts": 4,
        "concurrency": 4,
        "directory": None,
        "sleep": waits.append,
    }
    return WebSearch(**{**given, **changes})


def test_a_request_and_its_observation(serve):
    server = serve((200, {}, FOUND))
    tool = make_tool(client(server, parameters={"gl": "us"}), 80)
    assert tool.name == "search"
    assert tool.run("  creator of\x00 American\nDad ") == OBSERVATION
    assert server.requests == [{"key": KEY, "body": {"gl": "us", "q": "creator of American Dad", "num": 3}}]


def test_what_a_response_holds():
    response = {
        "answerBox": {"title": "Height", "answer": "330 m", "snippet": "With its antennas."},
        "knowledgeGraph": {
            "title": "Eiffel Tower",
            "type": "Tower in Paris",
            "description": "A lattice tower.",
            "attributes": {"Height": "330 m", "Opened": "1889"},
        },
        "organic": [{"title": "No snippet"}, {"title": "A", "snippet": "B"}, "odd", {"snippet": 7, "title": None}],
        "peopleAlsoAsk": [{"question": "?"}],
    }
    assert documents(response) == [
        Document("Height", "330 m With its antennas."),
        Document("Eiffel Tower", "Tower in Paris. A lattice tower. Height: 330 m. Opened: 1889"),
        Document("A", "B"),
        Document("", "7"),
    ]


@pytest.mark.parametrize(
    "response", [{}, {"organic": None}, {"organic": {"a": 1}, "answerBox": [], "knowledgeGraph": "x"}]
)
def test_nothing_found_is_an_observation(serve, response):
    assert make_tool(client(serve((200, {}, response))), 80).run("query") == NOTHING


def test_no_more_results_than_asked_for(serve):
    many = {"organic": [{"title": "", "snippet": f"s{i}"} for i in range(9)]}
    assert make_tool(client(serve((200, {}, many)), results=2), 80).run("query") == "#1 s0 #2 s1"


# ---- faults ----


@pytest.mark.parametrize(
    ("faults", "named"),
    [
        ([(429, {"Retry-After": "7"}, "slow down")], [7.0]),
        ([(429, {"Retry-After": "86400"}, "tomorrow")], [MAX_WAIT]),
        ([(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "")], None),
        ([(500, {}, "oops"), (503, {}, "oops")], None),
        (["cut"], None),
        (["closed"], None),
        ([(200, {}, '{"organic": [')], None),
        ([(200, {}, "[1]")], None),
        ([(200, {}, "[" * 100_000)], None),
        ([(200, {}, "\xff")], None),
    ],
    ids=["429", "429 tomorrow", "429 date", "5xx", "cut", "closed", "malformed", "list", "nested", "no JSON"],
)
def test_a_passing_fault_is_waited_out(serve, faults, named):
    server = serve(*faults, (200, {}, FOUND))
    waits: list[float] = []
    assert make_tool(client(server, waits), 80).run("query") == OBSERVATION
    assert len(server.requests) == len(faults) + 1
    if named is not None:
        assert waits == named
    else:  # about 1 and 2 s, and up to one more by chance
        assert all(2**i <= wait <= 2**i + 1 for i, wait in enumerate(waits))
        assert len(waits) == len(faults)


@pytest.mark.parametrize("fault", ["silent", "drip"])
def test_a_slow_server_is_left_and_asked_again(serve, fault):
    server = serve(fault, (200, {}, FOUND))
    start = time.monotonic()
    assert make_tool(client(server, timeout=0.5), 80).run("query") == OBSERVATION
    assert time.monotonic() - start < 5


def test_a_lasting_fault_is_infrastructure_and_not_the_models_failure(serve):
    server = serve((500, {}, "oops"))
    waits: list[float] = []
    with pytest.raises(WebSearchError, match=r"/search: HTTP 500: oops \(4 requests\)"):
        client(server, waits).search("query")
    assert len(server.requests) == 4
    assert len(waits) == 3
    environment = Environment("e", "", (make_tool(client(server), 80),), numeric_score, max_turns=3)
    turn = take_turn(environment, Question("q", "text", "7"), 1, "Action: search[query]")
    assert turn.outcome is not None
    assert turn.outcome.failure == "infrastructure"


def test_an_endpoint_that_is_down():
    with pytest.raises(WebSearchError, match=r"no connection, or a broken one \(ConnectError\) \(4 requests\)"):
        client().search("query")


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_stops_everything_in_one_line(serve, status):
    server = serve((status, {}, f'{{"message": "Unauthorized {KEY}."}}'))
    with pytest.raises(RequestError) as caught:
        client(server).search("query")
    assert str(caught.value) == (
        f"search.key_variable={VARIABLE}: {server.url} refuses the key in {VARIABLE} "
        f'(HTTP {status}: {{"message": "Unauthorized ***."}}).'
    )
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 404, 405])
def test_a_wrong_address_stops_everything(serve, status):
    server = serve((status, {"Location": "http://127.0.0.1:1/elsewhere"}, "not here"))
    with pytest.raises(RequestError, match=rf"search\.url={server.url}: there is no search API here \(HTTP {status}"):
        client(server).search("query")
    assert len(server.requests) == 1  # the key goes to no other place


def test_another_refusal_is_not_asked_again(serve):
    server = serve((400, {}, "Not enough credits"))
    with pytest.raises(WebSearchError, match="HTTP 400: Not enough credits"):
        client(server).search("query")
    assert len(server.requests) == 1


def test_an_endless_answer_is_cut(serve, monkeypatch):
    monkeypatch.setattr(web_search, "MAX_RESPONSE_BYTES", 1000)
    with pytest.raises(WebSearchError, match="longer than 1000 bytes"):
        client(serve((200, {}, {"organic": ["x" * 2000]}))).search("query")


@pytest.mark.parametrize("query", ["", "\x00", "x" * 100_000, "[[["])
def test_a_hostile_query_is_refused_before_it_is_sent(serve, query):
    server = serve((200, {}, FOUND))
    with pytest.raises(ToolError):
        make_tool(client(server), 80).run(query)
    assert server.requests == []


# ---- what is kept ----


def test_a_rerun_costs_nothing_and_finds_the_same(serve, tmp_path):
    server = serve((200, {}, FOUND), (200, {}, {"organic": [{"title": "", "snippet": "changed"}]}))
    for _ in range(3):
        assert make_tool(client(server, directory=tmp_path), 80).run("query") == OBSERVATION
    assert make_tool(client(server, directory=tmp_path), 20).run("query") == "#1 American Dad!…"  # cut from the same
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "change", [{"results": 5}, {"parameters": {"gl": "de"}}, {"query": "other"}, {"directory": None}]
)
def test_another_request_is_another_response(serve, tmp_path, change):
    server = serve((200, {}, FOUND))
    client(server, directory=tmp_path).search("query")
    change = dict(change)
    query = change.pop("query", "query")
    client(server, **{"directory": tmp_path, **change}).search(query)
    assert len(server.requests) == 2


def test_faults_are_not_kept(serve, tmp_path):
    server = serve((500, {}, "oops"), (200, {}, FOUND))
    with pytest.raises(WebSearchError):
        client(server, attempts=1, directory=tmp_path).search("query")
    assert client(server, directory=tmp_path).search("query") == [
        Document("American Dad!", "Created by Seth MacFarlane.")
    ]


def test_a_damaged_response_is_asked_for_again(serve, tmp_path):
    server = serve((200, {}, FOUND))
    client(server, directory=tmp_path).search("query")
    (kept,) = tmp_path.glob("*.json")
    kept.write_bytes(kept.read_bytes()[:-9])
    client(server, directory=tmp_path).search("query")
    assert len(server.requests) == 2


def test_the_same_query_of_many_threads_is_asked_once(serve, tmp_path):
    server = serve("pause")
    clients = [client(server, directory=tmp_path) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: clients[i % 3].search("query"), range(6)))
    assert found == [[Document("American Dad!", "Created by Seth MacFarlane.")]] * 6
    assert len(server.requests) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_no_more_requests_under_way_than_allowed(serve):
    server = serve("pause")
    one = client(server, concurrency=2)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: one.search(f"query {i}"), range(6)))
    assert len(server.requests) == 6
    assert server.most_under_way == 2


def test_a_cache_that_cannot_be_written_is_refused_before_anything_is_paid(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(RequestError, match=r"search\.cache=.*file: responses cannot be kept there"):
        client(directory=tmp_path / "file")


# ---- the key ----


def test_the_key_is_written_nowhere(serve, tmp_path, caplog):
    """Not in a log, an error, the kept responses, or what Python shows of the objects; also if the server says it."""
    caplog.set_level(logging.DEBUG)
    echo = {"organic": [{"title": "echo", "snippet": f"your key is {KEY}"}]}
    server = serve((200, {}, echo), (500, {}, f"bad {KEY}"), (400, {}, f"bad {KEY}"), "cut", (401, {}, f"no {KEY}"))
    one = client(server, directory=tmp_path, attempts=1)
    texts = [make_tool(one, 80).run("first")]
    for query in ("second", "third", "fourth", "fifth"):
        with pytest.raises((WebSearchError, RequestError)) as caught:
            one.search(query)
        error: BaseException | None = caught.value
        while error is not None:
            texts.append(f"{error!s} {error!r} {error.args}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert [request["key"] for request in server.requests] == [KEY] * 5
    assert texts[0] == "#1 echo: your key is ***"
    texts += [caplog.text, repr(one), str(vars(one)), *(str(vars(record)) for record in caplog.records)]
    texts += [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    assert [text for text in texts if KEY in text or "k3y-" in text] == []


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_missing_key_is_said_with_the_name_of_its_variable(monkeypatch, value):
    monkeypatch.delenv(VARIABLE) if value is None else monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(RequestError, match=rf"search\.key_variable={VARIABLE}: the environment variable {VARIABLE} is"):
        client()


@pytest.mark.parametrize("value", ["käy-0123", "key\n0123", "key\x1b0123"])
def test_a_key_that_no_header_can_hold_is_not_shown(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(RequestError) as caught:
        read_key(VARIABLE)
    assert "0123" not in str(caught.value)


def test_spaces_around_a_key_are_no_part_of_it(monkeypatch):
    monkeypatch.setenv(VARIABLE, f" {KEY}\n")
    assert read_key(VARIABLE) == KEY


@pytest.mark.parametrize("url", ["google.serper.dev", "ftp://x/y", "http://", "", "http://[", "https://me:pw1234@x/y"])
def test_an_address_that_is_none(url):
    with pytest.raises(RequestError, match=r"search\.url") as caught:
        client(url=url)
    assert "pw1234" not in str(caught.value)


def test_where_responses_are_kept(monkeypatch, tmp_path):
    assert web_search.response_directory("here") == Path("here")
    assert web_search.response_directory(None) is None  # NAT_CACHE=off in tests
    monkeypatch.setenv("NAT_CACHE", str(tmp_path))
    assert web_search.response_directory(None) == tmp_path / "web"
