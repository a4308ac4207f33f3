"""Calls in processes that are replaced, for work that leaves memory behind.

TensorFlow keeps some 15 to 35 MB of each model that was trained, whatever is deleted. Where
hundreds are trained one after the other, only the end of a process gives them back.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import pathlib
import threading
import traceback
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

T = TypeVar("T")
_END_SECONDS = 10.0


class ReplacedProcess:
    """Makes the first calls in this process, and later ones in one that is replaced.

    A few calls so cost nothing, and of many none is slower for those before it.

    Args:
      log: file for what the other processes say on standard error.
      calls: that one process makes.
    """

    def __init__(self, log: pathlib.Path, calls: int = 24):
        """See the class."""
        self._log, self._calls, self._left = log, calls, calls
        self._pipe: connection.Connection | None = None
        self._process: SpawnProcess | None = None

    def __call__(self, function: Callable[..., T], *arguments: object) -> T:
        """Calls `function`, of a module, with arguments that can be pickled.

        Returns:
          What it returns.

        Raises:
          RuntimeError: the process was killed.
          Exception: what the function raises.
        """
        if not self._left:
            self._replace()
            self._left = self._calls
        self._left -= 1
        if self._pipe is None:
            return function(*arguments)
        try:
            self._pipe.send((function, arguments))
            returned, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._left = 0
            raise RuntimeError(
                "The process that trains has ended by itself. Received: no answer, see "
                f"{self._log}. Expected: one; if it was killed for want of memory, take smaller "
                "batches. The same command goes on with what is missing."
            ) from error
        if returned:
            return value
        raise value from RuntimeError(f"In another process; its traceback is in {self._log}.")

    def _replace(self) -> None:
        if self._pipe is not None and self._process is not None:
            self._pipe.close()  # which ends the process; all that it did is written
            self._process.join(_END_SECONDS)
            self._process.kill()
            self._process.join()
        context = multiprocessing.get_context("spawn")  # a fork of TensorFlow does not work
        self._pipe, theirs = context.Pipe()
        # A daemon, which ends with this process.
        self._process = context.Process(target=_answer, args=(theirs, self._log), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the other process is seen


def _answer(calls: connection.Connection, log: pathlib.Path) -> None:
    """Makes calls until there is nobody to make them for."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, arguments = calls.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer: tuple[bool, Any] = True, function(*arguments)
        except BaseException as error:
            traceback.print_exc()
            answer = False, _as_sent(error)
        try:
            calls.send(answer)
        except Exception as error:  # what was returned, or what hangs on an error
            traceback.print_exc()
            calls.send((False, _told(error)))


def _as_sent(error: BaseException) -> BaseException:
    """An error, or one that says the same where it cannot be sent to another process."""
    try:
        copy.copy(error)  # which makes it anew from its arguments, as the other process would
    except Exception:
        return _told(error)
    return error


def _told(error: BaseException) -> RuntimeError:
    return RuntimeError(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """Ends this process in the middle of a call if nobody waits for it: a run has one writer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
