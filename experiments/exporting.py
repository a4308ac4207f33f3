"""What an export needs of a run besides its trained student."""

from __future__ import annotations

from clsd_tf import ClickConfidenceModel, Encoder
from experiments.models import build_model, load_model
from experiments.runs import Run
from experiments.training import load_taught


def load_with_confidence(run: Run) -> ClickConfidenceModel:
    """The trained student with its teacher and confidence function, as training left them.

    Raises:
      ValueError: the teacher cannot score new rows.
      RuntimeError: the run does not keep what is needed.
    """
    config = run.config()
    if "confidence" not in config.options or config.teacher not in ("frozen", "ema"):
        raise ValueError(
            f"The run in {run.directory} has no teacher that can score new rows. Received: "
            f"--method={config.method}, --teacher={config.teacher}. Expected: a method with a "
            "confidence function, and --teacher=frozen or --teacher=ema."
        )
    model, _ = load_taught(run, config)
    finished = load_model(run, config)  # a calibration came after the last step
    model.backbone.set_weights(finished.backbone.get_weights())
    model.calibrated.assign(finished.calibrated)
    return model


def load_untrained(run: Run) -> ClickConfidenceModel:
    """The student with the weights that its training began with, in the first run of a series.

    Raises:
      ValueError: a run that it went on from is gone.
    """
    config = run.config()
    while config.init_from:
        config = Run(config.init_from).config()
    return build_model(config, Encoder.load(run.encoding))
