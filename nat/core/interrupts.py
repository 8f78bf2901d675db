"""Interrupts that are never lost.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a finaliser or in a callback of the garbage
collector it is printed and forgotten, and a sweep of forty cells went on to its end.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_came = False


@contextmanager
def remembered() -> Iterator[None]:
    """Inside, an interrupt is raised as ever, and once more by the next `check`.

    Leaves alone a program that was started with interrupts ignored, as a shell does with what runs behind it, and one
    that has a handler of its own.
    """
    global _came
    _came = False
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def remember(number: int, frame: FrameType | None) -> None:
        global _came
        _came = True
        signal.default_int_handler(number, frame)

    try:
        signal.signal(signal.SIGINT, remember)
    except ValueError:  # only the main thread may, and only there is it raised
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check() -> None:
    """Raise KeyboardInterrupt if one came since `remembered` began. Called between pieces of work."""
    if _came:
        raise KeyboardInterrupt
