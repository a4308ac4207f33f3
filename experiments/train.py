r"""Trains a click model on prepared shards: plainly, by click confidence, or by a peer method.

python -m experiments.train --data_dir=prepared --model_dir=runs/plain --method=plain
python -m experiments.train --data_dir=prepared --model_dir=runs/clsd --method=clsd \
    --confidence=affine --student=weight --backbone=din --seed=1 \
    --input_service=grpc://localhost:7077
python -m experiments.train --data_dir=prepared --model_dir=runs/t_ce --method=t_ce \
    --method_options='{"drop_rate": 0.2, "ramp_steps": 500}'
python -m experiments.train --data_dir=prepared --model_dir=runs/oof --method=clsd \
    --confidence=affine --teacher=oof --num_folds=3 --explain
python -m experiments.train --data_dir=prepared --model_dir=runs/quick --teacher_fraction=0.25
python -m experiments.train --data_dir=prepared --model_dir=runs/second --method=clsd \
    --teacher=scores --generations=2 --calibrate
python -m experiments.train --data_dir=day_1 --model_dir=runs/day_1 --teacher=ema \
    --confidence=affine
python -m experiments.train --data_dir=day_2 --model_dir=runs/day_2 --teacher=ema \
    --confidence=affine --init_from=runs/day_1
TF_CONFIG='{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, \
    "task": {"type": "worker", "index": 0}}' \
    python -m experiments.train --data_dir=prepared --model_dir=runs/plain --strategy=multi_worker

A run that was interrupted goes on where it stopped when the same command is given again.
TensorBoard reads `<model_dir>/logs`; --explain writes nothing. Then: `clsd-evaluate`,
`clsd-report` and `clsd-export`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time

from absl import flags

from clsd_tf.backbones import backbone_names, check_backbone
from clsd_tf.precision import PRECISIONS
from data_pipeline.cli import load_tensorflow, run_main, write_results
from data_pipeline.directories import only_writer
from data_pipeline.flag_errors import json_object
from data_pipeline.manifest import data_checksum
from data_pipeline.progress import is_quiet
from data_pipeline.service_client import InputService, ask_service
from experiments.arms import ARMS, CONFIDENCES, get_arm
from experiments.cluster import STRATEGIES, Cluster, is_new
from experiments.confidence_report import print_confidence
from experiments.runs import TEACHERS, Run, TrainConfig
from experiments.trusted import trust

_METHODS = "; ".join(f"{name}: {arm.summary}" for name, arm in ARMS.items())
_METHOD_OPTIONS_OF = "; ".join(
    f"{name}: {', '.join(arm.method_options)}" for name, arm in ARMS.items() if arm.method_options
)

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared data set (`clsd-prepare`).")
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Directory of the run; made if need be.")
_METHOD = flags.DEFINE_enum("method", "clsd", list(ARMS), f"How to learn. {_METHODS}.")
_METHOD_OPTIONS = flags.DEFINE_string(
    "method_options", "{}", f"Further options of the method as JSON. {_METHOD_OPTIONS_OF}."
)
_BACKBONE = flags.DEFINE_string(
    "backbone",
    "dcn_v2",
    f"Architecture: {', '.join(backbone_names())}, or 'package.module:Class' of your own.",
)
_BACKBONE_OPTIONS = flags.DEFINE_string(
    "backbone_options", "{}", "Arguments of the backbone as JSON, such as '{\"units\": [64, 32]}'."
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    list(PRECISIONS),
    "What backbones compute in. mixed_bfloat16: products in bfloat16, weights and logits in "
    "float32; faster where the processor has such products (AVX512-BF16, AMX, GPU, TPU).",
)
_CONFIDENCE = flags.DEFINE_enum(
    "confidence", None, list(CONFIDENCES), "Confidence function; clsd has 'mixture'."
)
_CONFIDENCE_OPTIONS = flags.DEFINE_string(
    "confidence_options", "{}", "Arguments of the function as JSON, such as '{\"sharpness\": 3}'."
)
_STUDENT = flags.DEFINE_enum(
    "student", None, ["weight", "soft"], "Confidence weighs clicks, or replaces their label."
)
_ALPHA = flags.DEFINE_float(
    "alpha",
    None,
    "Share of the group's own confidence, 0 to 1; default: 1 with the noise mixtures, else 0.5.",
    0.0,
    1.0,
)
_DISTILLATION = flags.DEFINE_float(
    "distillation", None, "Share of the distillation loss, 0 to 1; clsd has 0.", 0.0, 1.0
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", None, "Softens teacher and student in the distillation loss; > 0."
)
_TEACHER = flags.DEFINE_enum(
    "teacher",
    "frozen",
    list(TEACHERS),
    "Where the teacher comes from. " + "; ".join(f"{k}: {v}" for k, v in TEACHERS.items()) + ".",
)
_TEACHER_DIR = flags.DEFINE_string(
    "teacher_dir", None, "Finished run whose model is the teacher, instead of training one."
)
_SCORES_DIR = flags.DEFINE_string(
    "scores_dir", None, "Scores to learn from (`clsd-score`), with --teacher=scores."
)
_NUM_FOLDS = flags.DEFINE_integer("num_folds", 3, "Models of --teacher=oof.", 2)
_TEACHER_FRACTION = flags.DEFINE_float(
    "teacher_fraction",
    1.0,
    "Share of the batches of an epoch that a teacher is trained on: a cheaper teacher; > 0, <= 1.",
)
_GENERATIONS = flags.DEFINE_integer(
    "generations", 1, "Students trained one after the other, each taught by the one before.", 1
)
_INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "Finished run to go on from, on new rows in data_dir (`clsd-prepare --encoding_from`).",
)
_SEED = flags.DEFINE_integer("seed", 0, "Of initial weights and of the order of rows.", 0)
_EPOCHS = flags.DEFINE_integer("epochs", 1, "Passes over the rows. Click models overfit early.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 512, "Impressions a step.", 1)
_OPTIMIZER = flags.DEFINE_enum(
    "optimizer",
    "default",
    ["default", "adam"],
    "default: Adam, and row-wise Adagrad for embedding tables. adam: Adam for everything.",
)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Of dense weights.", 0.0)
_EMBEDDING_LEARNING_RATE = flags.DEFINE_float(
    "embedding_learning_rate", 0.03, "Of embedding tables, with --optimizer=default.", 0.0
)
_CALIBRATE = flags.DEFINE_bool(
    "calibrate", False, "Calibrate the student's click rate on validation rows."
)
_CHECKPOINT_STEPS = flags.DEFINE_integer(
    "checkpoint_steps", 1000, "Batches between checkpoints, to resume from.", 1
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "default",
    list(STRATEGIES),
    "What trains. " + "; ".join(f"{k}: {v}" for k, v in STRATEGIES.items()) + ".",
)
_INPUT_SHARES = flags.DEFINE_integer(
    "input_shares",
    None,
    "Shares of the rows that a batch is put together from; a multiple of the replicas (default) of "
    "--strategy=multi_worker. Runs of as many train on the same batches, however many processes.",
    1,
)
_MIN_SHARD_BYTES = flags.DEFINE_integer(
    "min_shard_bytes", 1 << 18, "Least size of a part of a table on a parameter server.", 1
)
_CONNECT_SECONDS = flags.DEFINE_float(
    "connect_seconds", 600.0, "A chief's wait for others at first, and if out of reach later.", 0.0
)
_TPU = flags.DEFINE_string("tpu", "local", "Name or address of the TPU of --strategy=tpu.")
_INPUT_SERVICE = flags.DEFINE_string(
    "input_service", None, "Address of a `clsd-input-service` that reads the training rows."
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", False, "The same result bit by bit, at some cost in speed."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a run in model_dir.")
_EXPLAIN = flags.DEFINE_bool(
    "explain", False, "Say what would be done, how large it is and how long it takes, and stop."
)
_ABOUT_TEACHER = (_TEACHER, _TEACHER_DIR, _TEACHER_FRACTION, _SCORES_DIR, _NUM_FOLDS, _GENERATIONS)
_ABOUT_LESSON = (_CONFIDENCE, _STUDENT, _ALPHA, _DISTILLATION, _TEMPERATURE)
_AS_THEY_ARE = (
    *(_DATA_DIR, _BACKBONE, _PRECISION, *_ABOUT_TEACHER, _INIT_FROM, _SEED, _EPOCHS, _BATCH_SIZE),
    *(_OPTIMIZER, _LEARNING_RATE, _EMBEDDING_LEARNING_RATE, _CALIBRATE),
)
flags.mark_flags_as_required(["data_dir", "model_dir"])


def main(argv: list[str]) -> None:
    """Trains a run by the flags."""
    del argv
    cluster = Cluster.read(_STRATEGY.value)
    config = config_from_flags(cluster)
    run = Run(_MODEL_DIR.value)
    if _EXPLAIN.value:
        load_tensorflow()
        from experiments.explain import explain

        print(explain(run, config, cluster.strategy))
        return
    reads = _OVERWRITE.value or not run.is_finished
    service = ask_service(_INPUT_SERVICE.value) if reads else None
    with only_writer(run.directory) if cluster.is_chief else contextlib.nullcontext():
        _train(run, config, cluster, service)


def _train(run: Run, config: TrainConfig, cluster: Cluster, service: InputService | None) -> None:
    is_over = is_new(run.results)
    if cluster.is_chief:
        run.begin(config, overwrite=_OVERWRITE.value)
    trust(config.backbone)  # in every process: who gives the command trusts what it names
    if cluster.addresses and run.is_finished and not _OVERWRITE.value:
        print(run.results)  # a process that is started again after the others have left
        return

    load_tensorflow(start_runtime=not cluster.addresses)
    from experiments import parameter_servers, strategies
    from experiments.lost_processes import lost_processes
    from experiments.training import train_run

    if cluster.strategy == "parameter_server" and not cluster.is_chief:
        parameter_servers.serve(cluster, is_over)
        return
    started = time.monotonic()
    with lost_processes(cluster, _CONNECT_SECONDS.value) as at_work:
        distribution = strategies.start(
            cluster,
            min_shard_bytes=_MIN_SHARD_BYTES.value,
            connect_seconds=_CONNECT_SECONDS.value,
            tpu=_TPU.value,
            deterministic=_DETERMINISTIC.value,
            at_work=at_work,
        )
        phases = train_run(
            run,
            config,
            checkpoint_steps=_CHECKPOINT_STEPS.value,
            distribution=distribution,
            details=True,
            service=service,
        )
        metrics = {**phases, "seconds": round(time.monotonic() - started, 1)}
        if cluster.is_chief:
            if (confidence := phases["student"].get("confidence")) and not is_quiet():
                print_confidence(confidence)
            write_results(run.results, config=dataclasses.asdict(config), metrics=metrics)
        distribution.agree(0)  # nobody leaves before the run is finished


def config_from_flags(cluster: Cluster) -> TrainConfig:
    """What the flags ask for, in a cluster.

    Raises:
      ValueError: flags contradict each other, or the data set is not one.
    """
    given = {flag.name: flag.value for flag in _ABOUT_LESSON}
    arm = get_arm(_METHOD.value)
    given_flags = [f"--{flag.name}" for flag in _ABOUT_TEACHER if flag.present]
    if given_flags and not arm.needs_teacher:
        raise ValueError(
            f"--method={_METHOD.value} has no teacher. Received: {', '.join(given_flags)}. "
            "Expected: a method that has one, such as clsd; else leave that out."
        )
    if _NUM_FOLDS.present and _TEACHER.value != "oof":
        raise ValueError(
            "--num_folds is for --teacher=oof. Received: --num_folds with "
            f"--teacher={_TEACHER.value}. Expected: that teacher; else leave --num_folds out."
        )
    # Before a directory is made that would hold the mistake.
    check_backbone(_BACKBONE.value)
    for other in (_TEACHER_DIR.value, _INIT_FROM.value):
        if other is not None:
            Run(other).require_finished()
    confidence_options = json_object("confidence_options", _CONFIDENCE_OPTIONS.value)
    if arm.knows_rates and "rates" not in confidence_options:
        raise ValueError(
            f"--method={_METHOD.value} is told the noise rates. Received: none. Expected: "
            "--confidence_options='{\"rates\": [0.05, 0.1]}', one for each user group."
        )
    return TrainConfig(
        data=data_checksum(_DATA_DIR.value),
        backbone_options=json_object("backbone_options", _BACKBONE_OPTIONS.value),
        method=_METHOD.value,
        options=arm.with_options(given),
        confidence_options=confidence_options,
        method_options=arm.with_method_options(
            json_object("method_options", _METHOD_OPTIONS.value)
        ),
        input_shares=_INPUT_SHARES.value or cluster.num_trainers,
        **{flag.name: flag.value for flag in _AS_THEY_ARE},
    )


def cli() -> None:
    """Entry point of `clsd-train`."""
    run_main(main)


if __name__ == "__main__":
    cli()
