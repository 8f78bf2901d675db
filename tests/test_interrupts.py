"""An interrupt that Python swallows is raised again at the next piece of work."""

import gc
import os
import signal
import threading
from contextlib import contextmanager

import pytest

from nat.cli import run
from nat.core import interrupts
from nat.core.progress import begin, progress


@pytest.fixture(autouse=True)
def interrupts_are_raised():
    """Tests that a shell runs in the background inherit ignored interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def swallowed_interrupt():
    """An interrupt that arrives in a finaliser: Python prints it and goes on."""

    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with interrupts.remembered():
        Finalised()
        gc.collect()
        yield


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", [interrupts.check, lambda: begin("training")], ids=["check", "begin"])
def test_an_interrupt_in_a_finaliser_is_raised_at_the_next_check(work):
    with swallowed_interrupt(), pytest.raises(KeyboardInterrupt):
        work()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_finaliser_ends_long_work_at_its_next_step(capsys):
    with swallowed_interrupt(), progress(10, "training", "steps") as advance, pytest.raises(KeyboardInterrupt):
        advance(1, "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_command_after_an_interrupted_one_is_not_interrupted(capsys):
    with swallowed_interrupt():
        pass
    assert run(["--version"]) == 0
    with interrupts.remembered():
        interrupts.check()


def test_an_interrupt_is_raised_at_once_and_the_handler_is_put_back():
    with pytest.raises(KeyboardInterrupt), interrupts.remembered():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_interrupts_stay_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.remembered():
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_changed():
    found = []

    def enter():
        with interrupts.remembered():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
