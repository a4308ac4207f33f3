"""Which versions of a model are served, and under which labels.

`stable` is what all clients get that ask for nothing else; `canary` is tried on a share of users. A
client chooses by label, so that a promotion or a rollback is a change of the server's config.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

_FILE = "deployment.json"


@dataclasses.dataclass(frozen=True)
class Deployment:
    """What is served of a model.

    Attributes:
      name: of the model.
      stable: version under the label `stable`.
      canary: version under the label `canary`, or None.
      earlier: versions that were stable before, the latest last.
    """

    name: str
    stable: int
    canary: int | None = None
    earlier: tuple[int, ...] = ()

    @property
    def labels(self) -> dict[str, int]:
        """Label -> version."""
        canary = {} if self.canary is None else {"canary": self.canary}
        return {"stable": self.stable, **canary}

    @property
    def versions(self) -> list[int]:
        """Versions that a server has to load, rising."""
        return sorted(set(self.labels.values()))

    def with_stable(self, version: int) -> Deployment:
        """Another version is stable; a canary of that version is none any more."""
        if version == self.stable:
            return self
        canary = None if self.canary == version else self.canary
        earlier = (*self.earlier, self.stable)
        return dataclasses.replace(self, stable=version, canary=canary, earlier=earlier)

    def with_canary(self, version: int | None) -> Deployment:
        """Another version is tried, or none."""
        return dataclasses.replace(self, canary=version)

    def promote(self) -> Deployment:
        """The canary becomes stable.

        Raises:
          ValueError: there is no canary.
        """
        if self.canary is None:
            raise ValueError(
                f"There is no canary of '{self.name}' to promote. Received: promote, with labels "
                f"{self.labels}. Expected: a canary; set one first (--canary=VERSION)."
            )
        return self.with_stable(self.canary)

    def roll_back(self) -> Deployment:
        """What was stable before is stable again, without a canary.

        Raises:
          ValueError: nothing was.
        """
        if not self.earlier:
            raise ValueError(
                f"Version {self.stable} of '{self.name}' is the first that was stable: there is "
                "none to go back to. Received: rollback. Expected: an earlier stable version; name "
                "one as stable (--stable=VERSION)."
            )
        return Deployment(self.name, self.earlier[-1], None, self.earlier[:-1])

    def save(self, directory: pathlib.Path) -> None:
        """Writes `deployment.json`."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (directory / _FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, directory: pathlib.Path) -> Deployment | None:
        """Reads `deployment.json`; None where there is none."""
        path = directory / _FILE
        if not path.exists():
            return None
        fields = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**fields, "earlier": tuple(fields["earlier"])})
