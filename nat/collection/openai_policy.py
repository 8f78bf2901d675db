"""The policy of `nat collect` that asks an OpenAI-compatible server, several episodes at a time.

One turn of an episode, as it goes over the wire (observations are user turns):

    POST {base_url}/chat/completions
    {"model": "qwen3", "temperature": 0.7, "top_p": 1.0, "seed": 188231, "stop": ["\\nObservation:"], "messages": [
      {"role": "user", "content": "Use calculate[expression], then finish[answer].\\nNora owns 42 stamps. ..."},
      {"role": "assistant", "content": "Thought: Subtract.\\nAction: calculate[42-7]"},
      {"role": "user", "content": "Observation: 35"}]}
"""

from __future__ import annotations

import json
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from nat.agents.turns import failed, play
from nat.collection.config import EndpointConfig, ServerCollecting, TurnsConfig
from nat.collection.episodes import REFUSED, Episode
from nat.collection.policies import Done, Prompt, draw_seed
from nat.core.urls import check_url
from nat.types import Environment, Message, Outcome, RequestError, Rollout

KEY_REFUSED = (401, 403)
TRY_AGAIN = (408, 409, 425, 429)  # and everything from 500
# In a refusal's code, type or text: OpenAI's and vLLM's words, llama.cpp's, Azure's.
TOO_LONG = (
    *("context_length_exceeded", "exceed_context_size_error"),
    *("context length", "maximum context", "context window", "context size", "too many tokens"),
)
FILTERED = ("content_filter", "content_policy_violation")  # codes or types


class Broken(Exception):
    """A request was not answered, however often it was made. The message names the reason, without the key."""


class Unreadable(Exception):
    """The server's answer is no chat completion."""


class TooLong(Exception):
    """The episode does not fit into the model's context any more."""


class Filtered(Exception):
    """The server's content filter refuses the messages, or cut the turn off: it would do so again."""


class EpisodeOver(Exception):
    """Ends an episode in the middle, as `nat.agents.turns.play` cannot: its messages and outcome."""

    def __init__(self, messages: tuple[Message, ...], outcome: Outcome):
        super().__init__(outcome.failure)
        self.messages, self.outcome = messages, outcome


@dataclass(frozen=True)
class Answer:
    """One turn. `is_cut`: it ended at the token limit. Token counts are None where the server reports none."""

    text: str
    is_cut: bool
    tokens: int | None
    prompt_tokens: int | None


@dataclass
class Server:
    """A client and what has become known about its server. Used by all threads."""

    client: Any
    endpoint: EndpointConfig
    key: str | None
    stopped: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)  # once: then key, model and request are right


def policy(
    config: ServerCollecting, environment: Environment, prompt: Prompt
) -> Callable[[Sequence[Episode], Done], None]:
    """A function (episodes, done) that plays them. Raises RequestError where the key is not set."""
    return partial(play_all, config, open_server(config), environment, prompt)


def open_server(config: ServerCollecting) -> Server:
    import openai

    endpoint = config.endpoint
    if address := endpoint.base_url or os.environ.get("OPENAI_BASE_URL"):
        check_url(address, "collect.endpoint.base_url", "http://localhost:8000/v1", "collect.endpoint.key_variable")
    key = None
    if endpoint.key_variable is not None:
        key = os.environ.get(endpoint.key_variable, "").strip()
        if not key:
            raise RequestError(
                f"collect.endpoint.key_variable={endpoint.key_variable}: the process environment has no such variable; "
                "set it to the key,\nor give collect.endpoint.key_variable=null for a server that wants none."
            )
    # The client's own retries are off: ours also cover answers that cannot be read.
    client = openai.OpenAI(
        api_key=key or "none",
        base_url=endpoint.base_url,
        timeout=endpoint.timeout,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(event_hooks=bounding(endpoint.timeout)),
    )
    return Server(client, endpoint, key)


def bounding(timeout: float) -> dict[str, list[Callable[[Any], None]]]:
    """Hooks of the HTTP client that bound a whole answer: its own timeout begins anew with every byte."""

    def start(request: Any) -> None:
        request.extensions["nat_deadline"] = time.monotonic() + timeout

    def bound(response: Any) -> None:
        stream, deadline = response.stream, response.request.extensions["nat_deadline"]

        class Bounded(type(stream)):  # the client takes streams of its own library alone, which depends on openai's age
            def __init__(self) -> None:
                pass

            def __iter__(self) -> Iterator[bytes]:
                for chunk in stream:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"no complete answer within {timeout:g} s")
                    yield chunk

            def close(self) -> None:
                stream.close()

        response.stream = Bounded()

    return {"request": [start], "response": [bound]}


def play_all(
    config: ServerCollecting,
    server: Server,
    environment: Environment,
    prompt: Prompt,
    episodes: Sequence[Episode],
    done: Done,
) -> None:
    """`turns.at_once` threads play; `done` is called from this one.

    An episode that breaks is done with failure `infrastructure`. What no episode can do anything about (a refused key,
    an unknown model) is raised as it came, and so is what `done` raises, after the episodes that were over by then.
    """
    turns = config.turns
    waiting: queue.SimpleQueue[Episode] = queue.SimpleQueue()
    over: queue.SimpleQueue[tuple[Episode, Rollout, dict[str, Any]] | BaseException] = queue.SimpleQueue()
    for episode in episodes:
        waiting.put(episode)

    def work() -> None:
        while not server.stopped.is_set():
            try:
                episode = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                over.put((episode, *play_one(config.seed, server, turns, environment, prompt, episode)))
            except BaseException as error:  # whatever it is, the main thread must hear of it or wait for ever
                server.stopped.set()
                over.put(error)

    # Daemons: neither Ctrl-C nor a refused key should wait for answers that nobody wants any more.
    for _ in range(min(turns.at_once, len(episodes))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in episodes:
            ended = over.get()
            if isinstance(ended, BaseException):
                raise ended
            done(*ended)
    except BaseException:
        server.stopped.set()
        with suppress(Exception):  # the first error says why, whatever another one says
            _write_what_is_over(over, done)
        raise
    finally:
        server.stopped.set()


def _write_what_is_over(over: queue.SimpleQueue[Any], done: Done) -> None:
    """The episodes that ended behind an error. Broken ones are left out: that they broke is no news any more."""
    with suppress(queue.Empty):
        while True:
            ended = over.get_nowait()
            if not isinstance(ended, BaseException) and ended[1].outcome.failure != "infrastructure":
                done(*ended)


def play_one(
    seed: int, server: Server, turns: TurnsConfig, environment: Environment, prompt: Prompt, episode: Episode
) -> tuple[Rollout, dict[str, Any]]:
    """One episode and its token counts, where the server reports them; REFUSED where its content filter ended it.

    Raises RequestError where not even the first turn fits into the context: then `max_tokens` is wrong, not the policy.
    """
    question = episode.question
    asked = wire_messages(prompt(question.text))
    answers: list[Answer] = []
    details: dict[str, Any] = {}

    def act(messages: tuple[Message, ...]) -> str:
        try:
            answer = ask(
                server,
                turns,
                [*asked, *wire_messages(messages)],
                episode.temperature,
                draw_seed(seed, episode.id, len(answers)),
            )
        except Broken as error:
            raise EpisodeOver(messages, failed(question, "infrastructure", str(error))) from None
        except Filtered as error:
            details[REFUSED] = True
            raise EpisodeOver(messages, failed(question, "infrastructure", str(error))) from None
        except TooLong as error:
            if not answers:
                given = "null" if turns.max_tokens is None else turns.max_tokens
                raise RequestError(
                    f"collect.turns.max_tokens={given}: with the prompt of question {question.id!r} it does not fit "
                    f"into the model's context: {error}\n"
                    "Lower it, shorten the prompt (collect.few_shot=null) or leave such questions out."
                ) from None
            raise EpisodeOver(messages, failed(question, "no_answer")) from None
        answers.append(answer)
        if answer.is_cut:
            raise EpisodeOver((*messages, Message("assistant", answer.text)), failed(question, "no_answer"))
        return answer.text

    try:
        rollout = play(environment, question, act)
    except EpisodeOver as end:
        rollout = Rollout(question, end.messages, end.outcome)
    return rollout, {**_token_counts(answers), **details}


def wire_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"Observation: {message.content}"}
        if message.role == "tool"
        else {"role": message.role, "content": message.content}
        for message in messages
    ]


def ask(
    server: Server, turns: TurnsConfig, messages: Sequence[Mapping[str, str]], temperature: float | None, seed: int
) -> Answer:
    """One turn, tried up to `endpoint.tries` times.

    Raises:
        Broken: the last try failed as well, by a timeout, a cut connection, 408, 409, 429, 5xx or an unreadable answer;
            or the server refuses this one request, having answered others.
        TooLong: the messages do not fit into the context.
        Filtered: the server's content filter stands in the way.
        RequestError: the server refuses the key, knows no such model, or refuses the very first request.
    """
    import openai
    import tenacity

    if server.stopped.is_set():
        raise Broken("the collection is over")
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_passing),
        stop=tenacity.stop_after_attempt(server.endpoint.tries) | tenacity.stop_when_event_set(server.stopped),
        wait=partial(wait_seconds, server.endpoint.longest_wait),
        sleep=tenacity.sleep_using_event(server.stopped),
        reraise=True,
    )
    try:
        answer = retrying(_ask_once, server, turns, messages, temperature, seed)
    except openai.APIStatusError as error:
        if not is_passing(error):
            raise _refusal(server, error) from None
        raise Broken(_describe(server, error)) from None
    except (openai.APIError, Unreadable) as error:
        raise Broken(_describe(server, error)) from None
    server.answered.set()
    return answer


def _ask_once(
    server: Server, turns: TurnsConfig, messages: Sequence[Mapping[str, str]], temperature: float | None, seed: int
) -> Answer:
    optional = {"max_tokens": turns.max_tokens, "stop": turns.stop or None, "temperature": temperature}
    try:
        completion = server.client.chat.completions.create(
            model=server.endpoint.model,
            messages=messages,
            top_p=turns.top_p,
            seed=seed,
            extra_body=server.endpoint.extra or None,
            **{name: value for name, value in optional.items() if value is not None},
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"the answer is not JSON ({error})") from None
    except TimeoutError as error:  # of `bounding`
        raise Unreadable(str(error)) from None
    return read_answer(completion, turns.stop)


def read_answer(completion: Any, stop: Sequence[str]) -> Answer:
    """The turn in a completion; raises Unreadable where there is none, Filtered where the server withholds it.

    The client hands out whatever it was sent (a text, where that was no JSON). Stop texts are cut here as well: not
    every server heeds them.
    """
    try:
        choice = completion.choices[0]
        text, reason = choice.message.content or "", choice.finish_reason
        if not isinstance(text, str):
            raise TypeError(f"the content is a {type(text).__name__}")
    except (AttributeError, IndexError, TypeError) as error:
        raise Unreadable(f"the answer is no chat completion ({error})") from None
    if reason == "content_filter":
        raise Filtered("the server's content filter cut the turn off")
    stops = [place for place in map(text.find, stop) if place >= 0]
    if stops:
        text = text[: min(stops)]
    usage = getattr(completion, "usage", None)
    return Answer(
        # JSON may hold half of a surrogate pair; neither a file nor the next request can.
        text.encode("utf-8", "replace").decode().strip(),
        reason == "length" and not stops,
        getattr(usage, "completion_tokens", None),
        getattr(usage, "prompt_tokens", None),
    )


def is_passing(error: BaseException) -> bool:
    """Whether the same request may be answered later."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in TRY_AGAIN or error.status_code >= 500
    # An APIError without a status: no connection, a timeout, an answer that was cut off.
    return isinstance(error, openai.APIError | Unreadable)


def wait_seconds(longest: float, state: Any) -> float:
    """Seconds before the next try: what the server's Retry-After says, else about 1, 2, 4, ...; at most `longest`."""
    import tenacity

    headers = getattr(getattr(state.outcome.exception(), "response", None), "headers", {})
    asked_for = retry_after(headers.get("retry-after", ""))
    if asked_for is not None:
        return min(asked_for, longest)
    return min(tenacity.wait_exponential_jitter(initial=1, max=longest, jitter=0.5)(state), longest)


def retry_after(header: str) -> float | None:
    """Seconds that a Retry-After header asks for, which is a number of them or a date; None where it says nothing."""
    from datetime import UTC, datetime

    try:
        return None if math.isnan(seconds := float(header)) else max(0.0, seconds)
    except ValueError:
        pass  # a date, then
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _refusal(server: Server, error: Any) -> Exception:
    """What an answer of 4xx means: a wrong request, a full context, or an episode that this server will not answer."""
    endpoint, message = server.endpoint, _describe(server, error)
    names = {str(getattr(error, name, None) or "").lower() for name in ("code", "type")}
    if error.status_code in KEY_REFUSED:
        variable = endpoint.key_variable
        return RequestError(
            f"collect.endpoint.key_variable={'null' if variable is None else variable}: the server refuses "
            f"{'requests without a key' if variable is None else 'its key'}: {message}"
        )
    if names & set(FILTERED):
        return Filtered(message)
    if any(sign in text for text in (*names, _said(error).lower()) for sign in TOO_LONG):
        return TooLong(message)
    if error.status_code == 404:
        return RequestError(
            f"collect.endpoint.model={endpoint.model}: {message}\n"
            "Check the name, and that collect.endpoint.base_url ends where the server wants it (mostly in /v1)."
        )
    if server.answered.is_set():
        return Broken(message)
    return RequestError(f"collect.endpoint: the server refuses the request: {message}")


def _describe(server: Server, error: BaseException) -> str:
    """Status and the server's own words on one line, the key taken out."""
    status = getattr(error, "status_code", None)
    text = _said(error)
    if server.key:
        text = text.replace(server.key, "[key]")
    kind = str(status) if status is not None else type(error).__name__
    return f"{server.client.base_url}: {kind}: {' '.join(text.split())[:200]}"


def _said(error: BaseException) -> str:
    body = getattr(error, "body", None)
    said = None
    if isinstance(body, Mapping):
        said = body.get("message") or body.get("detail") or body.get("error")
    return str(said or error.__cause__ or error)


def _token_counts(answers: Sequence[Answer]) -> dict[str, Any]:
    """Sums over an episode's turns; nothing where a turn has no count, since a part would look like the whole."""
    counts = {}
    for name in ("tokens", "prompt_tokens"):
        values = [getattr(answer, name) for answer in answers]
        if values and None not in values:
            counts[name] = sum(values)
    return counts
