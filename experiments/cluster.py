"""The processes that train together: who they are, by `TF_CONFIG`. No TensorFlow is imported.

    TF_CONFIG='{"cluster": {"worker": ["host-0:2222", "host-1:2222"]},
                "task": {"type": "worker", "index": 0}}'

Every process of a cluster is started with the same command and a `TF_CONFIG` of its own, of which
only `task` differs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping

STRATEGIES = {
    "default": "one process on one device",
    "mirrored": "one process on all of its devices",
    "multi_worker": "several processes in step, by TF_CONFIG",
    "parameter_server": "a chief, workers that train at their own pace, and servers that hold the "
    "tables, by TF_CONFIG",
    "tpu": "one process on a TPU, see --tpu",
}
# Tasks of each strategy, those first whose first one is in charge.
_TRAINERS = {"multi_worker": ("chief", "worker"), "parameter_server": ("chief",)}
_NEEDED = {"multi_worker": (), "parameter_server": ("chief", "worker", "ps")}
_TASKS = {"multi_worker": ("chief", "worker"), "parameter_server": ("chief", "worker", "ps")}
_EXAMPLES = {
    "multi_worker": '{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}',
    "parameter_server": '{"cluster": {"chief": ["host-0:2222"], "worker": ["host-1:2222"], '
    '"ps": ["host-2:2222"]}, "task": {"type": "chief", "index": 0}}',
}


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What a process is among those that train together.

    Attributes:
      strategy: a key of `STRATEGIES`.
      addresses: task -> "host:port" of each process; empty for a process of its own.
      task: of this process: "chief", "worker" or "ps".
      index: among the processes of its task.
    """

    strategy: str = "default"
    addresses: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    task: str = "chief"
    index: int = 0

    @property
    def num_trainers(self) -> int:
        """Processes that compute in step."""
        tasks = _TRAINERS.get(self.strategy, ())
        return sum(len(self.addresses.get(task, ())) for task in tasks) or 1

    @property
    def trainer_index(self) -> int:
        """Of this process among those in step; the first one is in charge."""
        before = len(self.addresses.get("chief", ())) if self.task == "worker" else 0
        return before + self.index

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what all have learned."""
        return self.task != "ps" and self.trainer_index == 0

    @classmethod
    def read(cls, strategy: str, text: str | None = None) -> Cluster:
        """What `TF_CONFIG` says of this process.

        Args:
          strategy: a key of `STRATEGIES`.
          text: the variable; None reads it from the environment.

        Raises:
          ValueError: it is missing, malformed, or of another kind of cluster.
        """
        text = os.environ.get("TF_CONFIG", "") if text is None else text
        parsed = _parse(text) if text.strip() else {}
        addresses = {task: tuple(hosts) for task, hosts in parsed.get("cluster", {}).items()}
        if strategy not in _TASKS:
            if sum(map(len, addresses.values())) > 1:
                raise ValueError(
                    f"TF_CONFIG describes a cluster, and --strategy={strategy} trains in one "
                    f"process. Received: TF_CONFIG={text}. Choose --strategy="
                    f"{' or --strategy='.join(_TASKS)}, or unset TF_CONFIG."
                )
            return cls(strategy)
        task = parsed.get("task", {})
        kind, index = task.get("type"), task.get("index")
        known = set(addresses) <= {*_TASKS[strategy], "evaluator"} and bool(addresses)
        needed = all(addresses.get(name) for name in _NEEDED[strategy])
        is_mine = isinstance(index, int) and 0 <= index < len(addresses.get(kind, ()))
        if not (known and needed and is_mine and kind in _TASKS[strategy]):
            raise ValueError(
                f"--strategy={strategy} needs TF_CONFIG to say who trains, and who of them this "
                f"process is. Received: TF_CONFIG={text or 'nothing'}. Expected: such as "
                f"'{_EXAMPLES[strategy]}'."
            )
        return cls(strategy, addresses, kind, index)


def _parse(text: str) -> dict:
    try:
        parsed = json.loads(text)
        cluster = parsed.get("cluster", {})
        lists = all(isinstance(hosts, list) for hosts in cluster.values())
        if lists and all(isinstance(h, str) for hosts in cluster.values() for h in hosts):
            return {"cluster": cluster, "task": dict(parsed.get("task", {}))}
    except (ValueError, AttributeError, TypeError):
        pass
    raise ValueError(
        f"TF_CONFIG must be JSON of hosts and a task. Received: {text}. Expected: such as "
        f"'{_EXAMPLES['multi_worker']}'."
    )


def is_new(path: pathlib.Path) -> Callable[[], bool]:
    """Tells whether a file was made, or made anew, since this was called."""

    def state() -> tuple[int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    before = state()
    return lambda: state() not in (None, before)
