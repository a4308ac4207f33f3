"""Start-up: imports, and the way to the first batch and the first step, in fresh processes."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.benchmarks.click_log import make_prepared
from experiments.benchmarks.contenders import Comparison, Contender, Target
from experiments.benchmarks.floors import MachineRates
from experiments.benchmarks.settings import Settings

_TENSORFLOW = "import tensorflow"
_IMPORT = "import of the model and the reader"
_BATCH, _STEP = "first batch", "first step"
_COMMAND = "first batch of a command"
_LOAD = """
from data_pipeline.cli import load_tensorflow
load_tensorflow()
"""
_IMPORTS = """
from clsd_tf import ClickConfidenceModel, Encoder, get_backbone
from data_pipeline.reader import make_dataset
"""
_READ = "data = make_dataset({directory!r}, 'train', {batch_size})\n"
_TRAIN = """
features = Encoder.load({directory!r}).model_features
model = ClickConfidenceModel(get_backbone('dcn_v2', features))
model.compile()
model.fit(data.take(1), verbose=0)
"""


def comparisons(settings: Settings, rates: MachineRates) -> Iterator[Comparison]:
    """One comparison; a run is a process from its start to its end."""
    del rates
    place = {
        "directory": str(make_prepared(settings.data, settings.size)),
        "batch_size": settings.batch_size,
    }
    read = _IMPORTS + _READ.format(**place)
    programs = {
        _TENSORFLOW: "import tensorflow",
        _IMPORT: _IMPORTS,
        _BATCH: read + "next(iter(data))",
        _COMMAND: _LOAD + read + "next(iter(data))",
        _STEP: read + _TRAIN.format(**place),
    }
    yield Comparison(
        "startup",
        "fresh processes",
        tuple(
            Contender(name, "command_worker", {"arguments": ["-P", "-c", program], "examples": 1})
            for name, program in programs.items()
        ),
        (
            Target(_IMPORT, _TENSORFLOW, 1.5, "at most"),
            Target(_BATCH, None, 3.0, "at most", scale=1e-6),
            Target(_COMMAND, None, 3.0, "at most", scale=1e-6),
            Target(_STEP, None, scale=1e-6),
        ),
        unit="run",
    )
