"""Any number of threads at one gallery: of its methods one at a time runs."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

    from .store import Store


C = TypeVar("C", bound=type)
E = TypeVar("E")
F = TypeVar("F", bound=Callable[..., Any])


def in_turns(cls: C) -> C:
    """Let an object be used by any number of threads: of its public methods one at a time runs.

    It has `_turn`, a `Turn`. What a method yields is made in turns, too: others come in between.
    """
    for name, member in list(vars(cls).items()):
        if name.startswith("_") or getattr(member, "takes_its_turns", False):
            continue
        if isinstance(member, property) and member.fget:
            setattr(cls, name, property(_one_at_a_time(member.fget), doc=member.__doc__))
        elif inspect.isfunction(member):
            setattr(cls, name, _one_at_a_time(member))
    return cls


def takes_its_turns(method: F) -> F:
    """Mark a method of a class `in_turns` that itself enters the `Turn`, where it needs it."""
    method.takes_its_turns = True  # type: ignore[attr-defined]
    return method


class Turn:
    """A lock; what goes wrong while it is held is looked into, since the gallery may contradict itself."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock, self._process = store, threading.RLock(), os.getpid()
        self._within: list[contextlib.AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        if self._process != os.getpid():  # a thread of the parent may have held it when this one was forked
            self._process, self._lock, self._within = os.getpid(), threading.RLock(), []
        self._lock.acquire()
        self._within.append(self._store.database.understood())
        self._within[-1].__enter__()

    def outside(self, items: Iterable[E]) -> Iterable[E]:
        """Return items of which, while one is waited for, others have their turn, unless a transaction is open."""
        return items if isinstance(items, Sequence) else self._waited_for(items)

    def _waited_for(self, items: Iterable[E]) -> Iterator[E]:
        waiting = iter(items)
        while True:
            with contextlib.nullcontext() if self._store.database.in_use else self._paused():
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            yield item

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        within, self._within = self._within, []
        for _ in within:
            self._lock.release()
        try:
            yield
        finally:
            for _ in within:
                self._lock.acquire()
            self._within = within

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._within.pop().__exit__(kind, error, at)
        finally:
            self._lock.release()


def _one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._turn:
            made = method(self, *args, **kwargs)
        # Before Python 3.13 a path is one, too.
        if isinstance(made, contextlib.AbstractContextManager) and not isinstance(made, os.PathLike):
            return _within(self._turn, made)
        return _each_in_turn(self._turn, made) if inspect.isgenerator(made) else made

    return call


@contextlib.contextmanager
def _within(turn: Turn, entered: contextlib.AbstractContextManager[Any]) -> Iterator[Any]:
    with turn, entered as inner:
        yield inner


def _each_in_turn(turn: Turn, made: Iterator[Any]) -> Iterator[Any]:
    while True:
        with turn:
            try:
                item = next(made)
            except StopIteration:
                return
        yield item
