"""`search[query]` on the web, by an API that speaks Serper's JSON. One request and the parts of a response that count:

    POST https://google.serper.dev/search   X-API-KEY: ...   {"q": "creator of American Dad", "num": 3}

    {"answerBox": {"title": "American Dad!", "answer": "Seth MacFarlane"},
     "knowledgeGraph": {"title": "American Dad!", "type": "Sitcom", "description": "An American animated sitcom ..."},
     "organic": [{"title": "American Dad!", "link": "https://...", "snippet": "American Dad! is an American ..."}]}

The key comes from an environment variable and goes into that one header. It is no field of anything here, and what a
server says is searched for it before it is kept or shown. Responses are kept in one file each, named by a hash of the
request: a re-run asks nothing and finds the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nat.core.cache import cache_directory
from nat.core.files import write_text
from nat.core.urls import check_url
from nat.search.bm25 import Document, check_query, titled_snippets
from nat.types import RequestError, Tool

logger = logging.getLogger(__name__)

MAX_RESPONSE_BYTES = 4 * 1024**2
MAX_WAIT = 60.0  # seconds between two requests, whatever the server asks for
N_LOCKS = 256  # lock files: a query waits for another one only where their hashes begin alike
MIN_KEY_CHARACTERS = 12  # of a key that is looked for in answers; a stand-in such as "test" may well be a word there
FORMAT = 1  # of kept responses


class WebSearchError(Exception):
    """The API gave no results, and it is not the query's fault: the episode's failure is `infrastructure`."""


class _Transient(WebSearchError):
    """Worth another request, after `wait` seconds where the server named a time."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


class WebSearch:
    """Asks the API, or the files in which its responses are kept; threads may share it.

    Args:
        key_variable: name of the environment variable with the key, read at each request.
        parameters: more of the request's JSON.
        timeout: seconds a request may take, its whole answer included.
        attempts: requests before `WebSearchError`.
        concurrency: requests under way at once.
        directory: of the kept responses; None: none is kept.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        *,
        url: str,
        key_variable: str,
        results: int,
        parameters: Mapping[str, str | int | float | bool],
        timeout: float,
        attempts: int,
        concurrency: int,
        directory: Path | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        check_url(url)
        read_key(key_variable)
        self.url = url
        self.key_variable = key_variable
        self.results = results
        self.parameters = dict(parameters)
        self.timeout = timeout
        self.attempts = attempts
        self.directory = directory
        self._sleep = sleep
        self._client: Any = None
        self._lock = threading.Lock()  # of the client's making
        self._under_way = threading.BoundedSemaphore(concurrency)
        if directory is not None:
            _check_writable(directory)

    def search(self, query: str) -> list[Document]:
        """What the API finds, best first. Raises RequestError for a refused key or URL, else WebSearchError."""
        body = {**self.parameters, "q": query, "num": self.results}
        name = hashlib.sha256(json.dumps([FORMAT, self.url, body], sort_keys=True).encode()).hexdigest()
        path = self.directory / f"{name}.json" if self.directory is not None else None
        if (kept := _kept(path)) is not None:
            return documents(kept)[: self.results]
        with self._locked(name):
            if (response := _kept(path)) is None:  # another thread or process may have asked in the meantime
                with self._under_way:
                    response = self._ask(body)
                if path is not None:
                    _keep(path, {"url": self.url, "request": body, "response": response})
        return documents(response)[: self.results]

    def _locked(self, name: str) -> Any:
        """Held while a query is asked, so that the same one is not paid for twice."""
        if self.directory is None:
            return nullcontext()
        from filelock import FileLock

        return FileLock(self.directory / f".{int(name[:8], 16) % N_LOCKS}.lock")

    def _connections(self) -> Any:
        """The one client of all threads: a new one would load certificates again, which takes longer than a request."""
        with self._lock:
            if self._client is None:
                import httpx

                logging.getLogger("httpx").setLevel(logging.WARNING)  # it notes every request
                self._client = httpx.Client(timeout=self.timeout)
            return self._client

    def _ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        import tenacity

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            named = error.wait if isinstance(error, _Transient) else None
            return min(named, MAX_WAIT) if named is not None else backing_off(state)

        backing_off = tenacity.wait_exponential_jitter(initial=1, max=MAX_WAIT, jitter=1)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=wait,
            retry=tenacity.retry_if_exception_type(_Transient),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._ask_once, body)
        except _Transient as error:
            # Raised anew: neither the message nor the exceptions behind it hold a request and its headers.
            raise WebSearchError(f"{self.url}: {error} ({self.attempts} requests)") from None

    def _ask_once(self, body: Mapping[str, Any]) -> dict[str, Any]:
        import httpx

        key = read_key(self.key_variable)
        client = self._connections()
        deadline = time.monotonic() + self.timeout
        headers = {"X-API-KEY": key, "Content-Type": "application/json"}
        try:
            with client.stream("POST", self.url, content=_encode(body), headers=headers) as answer:
                content = b""
                for chunk in answer.iter_bytes():  # a server that sends a byte now and then keeps no one waiting
                    content += chunk
                    if time.monotonic() > deadline:
                        raise _Transient(f"no complete answer within {self.timeout:g} s")
                    if len(content) > MAX_RESPONSE_BYTES:
                        raise WebSearchError(f"{self.url}: the answer is longer than {MAX_RESPONSE_BYTES} bytes")
                status, named = answer.status_code, answer.headers.get("Retry-After")
        except httpx.TimeoutException:
            raise _Transient(f"no answer within {self.timeout:g} s") from None
        except httpx.InvalidURL as error:
            raise RequestError(f"search.url={self.url!r}: it is no address ({error})") from None
        except httpx.RequestError as error:
            raise _Transient(f"no connection, or a broken one ({type(error).__name__})") from None
        text = content.decode("utf-8", "replace")
        if len(key) >= MIN_KEY_CHARACTERS:
            text = text.replace(key, "***")
        return _checked(self.url, self.key_variable, status, text, named)


def make_tool(web: WebSearch, max_characters: int) -> Tool:
    """`search[query]`: the results as one line of numbered snippets."""

    def search(query: str) -> str:
        check_query(query)
        # The API need not be asked about control characters or halves of surrogate pairs, which no text holds.
        printable = "".join(letter if letter.isprintable() else " " for letter in query)
        return titled_snippets(web.search(" ".join(printable.split())), max_characters)

    return Tool(name="search", run=search)


def read_key(variable: str) -> str:
    """The key in this environment variable. Raises RequestError, without the value, where there is none to send."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise RequestError(
            f"search.key_variable={variable}: the environment variable {variable} is not set; search=web sends the key "
            "in it.\nWithout a key: search=bm25 (a corpus of your own) or search=replay (recorded observations)."
        )
    if not (key.isascii() and key.isprintable()):
        raise RequestError(f"search.key_variable={variable}: {variable} holds characters that no key has (not shown).")
    return key


def response_directory(configured: str | None) -> Path | None:
    """Where responses are kept: `search.cache`, or nat's cache directory; None where that is switched off."""
    if configured is not None:
        return Path(configured).expanduser()

    cache = cache_directory()
    return cache / "web" if cache else None


def _check_writable(directory: Path) -> None:
    """A run that cannot keep what it pays for should not begin."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise RequestError(
            f"search.cache={directory}: responses cannot be kept there ({error.strerror or error}).\n"
            "Name a directory that can be written."
        ) from None


def documents(response: Mapping[str, Any]) -> list[Document]:
    """The answer box, the knowledge graph and the organic results of a response, as far as they hold text."""
    found = [*_direct_answer(response.get("answerBox")), *_graph(response.get("knowledgeGraph"))]
    organic = response.get("organic")
    for result in organic if isinstance(organic, list) else []:
        if isinstance(result, dict):
            found.append(Document(_text(result, "title"), _text(result, "snippet")))
    return [document for document in found if document.text]


def _direct_answer(box: Any) -> Iterator[Document]:
    if isinstance(box, dict):
        yield Document(_text(box, "title"), " ".join(filter(None, (_text(box, "answer"), _text(box, "snippet")))))


def _graph(graph: Any) -> Iterator[Document]:
    if isinstance(graph, dict):
        attributes = graph.get("attributes")
        facts = attributes.items() if isinstance(attributes, dict) else ()
        parts = (_text(graph, "type"), _text(graph, "description"), *(f"{name}: {value}" for name, value in facts))
        yield Document(_text(graph, "title"), ". ".join(part.rstrip(".") for part in parts if part))


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _checked(url: str, key_variable: str, status: int, text: str, retry_after: str | None) -> dict[str, Any]:
    """The response as an object; or what is wrong, by whose fault it is."""
    said = " ".join(text.split())[:120]
    if status in (401, 402, 403):
        raise RequestError(
            f"search.key_variable={key_variable}: {url} refuses the key in {key_variable} (HTTP {status}: {said})."
        )
    if status == 429 or status == 408 or status >= 500:
        raise _Transient(f"HTTP {status}: {said}", _seconds(retry_after))
    if status in (404, 405) or 300 <= status < 400:
        raise RequestError(f"search.url={url}: there is no search API here (HTTP {status}: {said}).")
    if status != 200:
        raise WebSearchError(f"{url}: HTTP {status}: {said}")
    try:
        response = json.loads(text)
    except (ValueError, RecursionError):
        raise _Transient(f"an answer that is not JSON: {said}") from None
    if not isinstance(response, dict):
        raise _Transient(f"an answer that is no object: {said}")
    return response


def _seconds(retry_after: str | None) -> float | None:
    """Of a Retry-After header; None where it holds a date or nothing, and the usual waits do."""
    if retry_after is None or not retry_after.strip().isdecimal():
        return None
    return float(retry_after)


def _kept(path: Path | None) -> dict[str, Any] | None:
    """A kept response; None where there is none, or none that can be read."""
    if path is None:
        return None
    try:
        response = json.loads(path.read_text(encoding="utf-8"))["response"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return response if isinstance(response, dict) else None


def _keep(path: Path, value: Mapping[str, Any]) -> None:
    """The caller holds the lock of this name. A full disk costs the copy, not the episode."""
    try:
        write_text(path, json.dumps(value, ensure_ascii=False) + "\n")
    except (OSError, UnicodeEncodeError) as error:
        logger.warning("a web search response could not be kept in %s: %s", path.parent, error)
