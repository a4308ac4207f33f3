from __future__ import annotations

import pathlib
import re
import typing

import pytest

from clsd_tf import features
from clsd_tf.spec import parse_spec
from data_pipeline.datasets import ready_specs
from data_pipeline.simulated_log import simulate_log
from data_pipeline.simulation import WorldSize

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA_SETS = (ROOT / "docs" / "data_sets.md").read_text(encoding="utf-8")


def specs() -> dict[str, str]:
    """Each TOML block of the documents, all of which are whole specs."""
    found = {}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)):
            found[f"{path.name} {number}"] = block
    return found


@pytest.mark.parametrize("name", sorted(specs()))
def test_specs_in_documents_are_valid_and_can_be_rehearsed(name):
    spec = parse_spec(specs()[name], source=name)
    log = simulate_log(spec, WorldSize(400, 50, 20), (0.05, 0.1, 0.2, 0.35))
    assert log.truth.num_rows == 400


def test_everything_that_a_spec_can_say_is_documented():
    told = set(re.findall(r"`\"?([\w.]+)\"?`", DATA_SETS))
    assert set(typing.get_args(features.Role)) <= told
    assert set(typing.get_args(features.Encoding)) <= told
    choices = (typing.get_args(f.annotation) for f in features.ColumnSpec.model_fields.values())
    assert {c for each in choices for c in each if isinstance(c, str)} <= told
    models = [features.ColumnSpec, features.TableSpec, features.InputSpec, features.SplitSpec]
    models += [features.HistorySpec, features.ActivitySpec]
    options = {option for model in models for option in model.model_fields}
    assert options - {"name", "role", "encoding", "by", "derived"} <= told
    assert set(features.ClickLogSpec.model_fields) - {"name", "columns"} <= set(
        re.findall(r"^\| `\[(\w+)", DATA_SETS, re.MULTILINE)
    )
    example = "".join(specs().values())
    for option in features.ExplodeSpec.model_fields:
        assert re.search(rf"^{option} = ", example, re.MULTILINE)


def test_every_ready_spec_is_documented():
    for name in ready_specs():
        assert f"--spec={name} " in DATA_SETS
        assert f"`{name}`" in DATA_SETS
