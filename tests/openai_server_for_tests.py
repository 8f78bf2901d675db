"""A server that speaks /v1/chat/completions over HTTP, on this machine, and breaks in every way that is asked of it.

    with serving(reply, faults=["429", "cut", None]) as server:
        ...  # the first request gets a 429, the second a cut connection, all others what reply(body) says
        server.requests  # bodies, in the order of arrival

By hand, with a solver of arithmetic questions behind it:  python -m tests.openai_server_for_tests PORT [FAULT_SHARE]
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

KEY = "sk-a-key-that-nobody-may-log"
MODEL = "solver"
SLOW_SECONDS = 1.0  # of a "slow" answer
DRIP_SECONDS = 5.0  # until an answer that drips breaks off
Fault = str | None  # see `_Handler.do_POST`
Reply = Callable[[dict[str, Any]], str]


@dataclass
class Server:
    reply: Reply
    faults: list[Fault]  # of the first requests, in order of arrival
    fault_of: Callable[[int], Fault]  # of the others, by their number
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0  # requests in the server now
    most_at_once: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving(
    reply: Reply,
    faults: Sequence[Fault] = (),
    fault_of: Callable[[int], Fault] = lambda number: None,
    port: int = 0,
) -> Iterator[Server]:
    server = Server(reply, list(faults), fault_of)

    class Handler(_Handler):
        state = server

    http = _QuietServer(("127.0.0.1", port), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed leave half a request behind; anything else should be seen."""
        if not isinstance(sys.exception(), ConnectionError | json.JSONDecodeError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    state: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with state.guard:
            number = len(state.requests)
            state.requests.append(body)
            fault = state.faults.pop(0) if state.faults else state.fault_of(number)
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
        try:
            self._answer(body, fault)
        finally:
            with state.guard:
                state.at_once -= 1

    def _answer(self, body: dict[str, Any], fault: Fault) -> None:
        if self.path != "/v1/chat/completions":
            return self._send(404, _error(f"no route {self.path}"))
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self._send(401, _error(f"Incorrect API key provided: {self.headers.get('Authorization')}"))
        if body["model"] != MODEL:
            return self._send(404, _error(f"The model {body['model']!r} does not exist"))
        match fault:
            case "429":
                return self._send(429, _error("slow down"), {"Retry-After": "0.05"})
            case "500" | "503":
                return self._send(int(fault), _error("overloaded"))
            case "401":
                return self._send(401, _error("this key was taken back"))
            case "400":
                return self._send(400, _error("this content is not for us"))
            case "filtered":
                return self._send(400, _error("The prompt was filtered.", code="content_filter"))
            case "too_long_by_code":
                return self._send(400, _error("Please send less.", code="context_length_exceeded"))
            case "too_long_for_llama":  # as llama.cpp says it
                text = f"{'the request ' * 20}(900 tokens) exceeds the available context size (512 tokens)"
                return self._send(400, _error(text, type="exceed_context_size_error"))
            case "drip":  # a byte now and then: each comes within a timeout, the answer never
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "1000")
                self.end_headers()
                with suppress(OSError):
                    for _ in range(round(DRIP_SECONDS / 0.1)):
                        self.wfile.write(b" ")
                        time.sleep(0.1)
                self.close_connection = True
                return None
            case "too_long":
                return self._send(400, _error("This model's maximum context length is 64 tokens"))
            case "cut":  # half of the headers' promise, then the end
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"id": "half an')
                self.close_connection = True
                return None
            case "malformed":
                return self._send(200, b'{"choices": [{"message": {"role"')
            case "empty":
                return self._send(200, b'{"choices": []}')
            case "html":
                return self._send(200, b"<html>gateway</html>", {"Content-Type": "text/html"})
            case "slow":
                time.sleep(SLOW_SECONDS)
        text = self.state.reply(body)
        reason = {"length": "length", "cut_by_filter": "content_filter"}.get(fault or "", "stop")
        usage = {"prompt_tokens": 10, "completion_tokens": len(text.split()), "total_tokens": 0}
        return self._send(200, _completion(text, reason, None if fault == "no_usage" else usage))

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the client had given up

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _error(message: str, type: str = "test", code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": type, "code": code}}).encode()


def _completion(text: str, reason: str, usage: dict[str, int] | None) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    record = {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage}
    return json.dumps(record).encode()


def arithmetic_solver(n_questions: int, failure_rate: float = 0.3) -> Reply:
    """Answers as the arithmetic world's scripted policy would; its errors depend on question and temperature."""
    from dataclasses import replace

    from nat.environments.worlds import worlds
    from nat.sweeps import composition
    from nat.types import Message

    composed = composition.checked(composition.compose(["environment=arithmetic"]), [])
    world: Any = replace(composed.environment, failure_rate=failure_rate)
    questions = {question.text: question for question in worlds.make_questions(world, "train", n_questions)}

    def reply(body: dict[str, Any]) -> str:
        asking = body["messages"][-1 - 2 * sum(m["role"] == "assistant" for m in body["messages"])]
        question = next(q for text, q in questions.items() if asking["content"].endswith(text))
        turns = body["messages"][body["messages"].index(asking) + 1 :]
        messages = tuple(
            Message("assistant", m["content"])
            if m["role"] == "assistant"
            else Message("tool", m["content"].removeprefix("Observation: "))
            for m in turns
        )
        policy, _ = worlds.scripted_policy(world, question, Random(f"{question.id} {body['temperature']}"))
        return policy(messages)

    return reply


def main() -> None:
    port, share = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    kinds = ("429", "500", "cut", "malformed", "slow")

    def fault_of(number: int) -> Fault:
        rng = Random(number)
        return rng.choice(kinds) if rng.random() < share else None

    with serving(arithmetic_solver(1000), fault_of=fault_of, port=port) as server:
        print(f"{server.url}  model {MODEL}  key {KEY}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
