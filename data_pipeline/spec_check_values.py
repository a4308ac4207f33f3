"""What the values of a log's good rows say of its spec: labels, encodings, groups."""

from __future__ import annotations

import math

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clsd_tf.features import ClickLogSpec, ColumnSpec
from data_pipeline.column_profile import profile
from data_pipeline.csv_rows import FILE, NUMBER
from data_pipeline.log_profile import evidence_of
from data_pipeline.log_sample import LogSample, distinct_counts, raw_types
from data_pipeline.spec_findings import Evidence, Finding, findings_of
from data_pipeline.spec_roles import Named

_MODEL_ROLES = ("feature", "user", "item", "group")
_UNKNOWN = 0.05
_MIN_GROUP_CLICKS = 200


def check_values(spec: ClickLogSpec, sample: LogSample, good: ir.Table) -> list[Finding]:
    """What the values of good rows say."""
    columns = [c for c in spec.source_columns if c.table is None and c.name in good.columns]
    columns = [c for c in columns if c.role not in ("ignore", "timestamp")]
    table = good.order_by(FILE, NUMBER).select(*(c.name for c in columns)).to_pyarrow()
    if not table.num_rows:
        return []
    clicks = table[spec.label.name].cast(pa.float64()).to_numpy()
    findings = _of_label(spec, clicks)
    raw, distinct = raw_types(sample), distinct_counts(sample)
    users, items = table[spec.user.name], table[spec.item.name]
    for column in columns:
        if column.role == "label":
            continue
        values = table[column.name]
        found = distinct[column.source_name]
        named = Named(
            profile(column.name, column.type, column.is_list, values, found, sample.rows),
            raw[column.source_name],
        )
        evidence = evidence_of(named, values, clicks, users, items)
        findings += _of_column(column, evidence)
        findings += _of_encoding(column, evidence, values, whole=sample.size == sample.rows)
        if column.role == "group":
            findings += _of_group(column, evidence, values, clicks)
    return findings


def _of_label(spec: ClickLogSpec, clicks: np.ndarray) -> list[Finding]:
    rate, name = float(clicks.mean()), spec.label.name
    if rate in (0.0, 1.0):
        what = f"All rows are {'clicks' if rate else 'no clicks'}."
        mend = "Log impressions that were not clicked too, or mend `positive_from`."
        return [Finding("error", name, "one_class", what, "There is nothing to tell apart.", mend)]
    if rate > 0.8:
        what = f"{rate:.1%} of the rows are clicks."
        why = "Impressions that were not clicked may be missing from the log."
        return [Finding("warning", name, "many_clicks", what, why, "")]
    return []


def _of_column(column: ColumnSpec, evidence: Evidence) -> list[Finding]:
    if column.role == "satisfaction":
        clicks, others = evidence.after_click
        if not math.isnan(clicks) and others > 0.5 * clicks:
            what = f"It has a value in {clicks:.1%} of clicks and {others:.1%} of other rows."
            why = "What is as common without a click may be known before it."
            return [Finding("note", column.name, "not_after_click", what, why, "")]
        return []
    if column.role not in _MODEL_ROLES:
        return []
    found = findings_of(evidence)
    if column.role in ("user", "item"):
        # An id may tell much, and how often it occurs is what encodings are for.
        found = [finding for finding in found if finding.code not in ("leak", "post_click")]
    if column.type == "string":
        found = [finding for finding in found if finding.code != "leading_zeros"]
    return found


def _of_encoding(
    column: ColumnSpec, evidence: Evidence, values: pa.ChunkedArray, *, whole: bool
) -> list[Finding]:
    profile_ = evidence.column
    elements = values.combine_chunks()
    elements = elements.flatten() if column.is_list else elements.drop_null()
    if not len(elements):
        return []
    if column.encoding == "identity":
        inside = pc.and_(pc.greater_equal(elements, 0), pc.less(elements, column.num_values))
        outside = 1 - pc.mean(inside).as_py()
        if outside > _UNKNOWN:
            return [
                Finding(
                    "warning",
                    column.name,
                    "outside_identity",
                    f"{outside:.1%} of the values are not in 0 to {column.num_values - 1}; the "
                    f"largest is {profile_.high:g}.",
                    "They all count as 'other'.",
                    f'Set num_values = {int(profile_.high) + 1}, or encoding = "vocabulary".',
                )
            ]
    if column.encoding == "vocabulary" and column.min_count > 1 and whole:
        counts = pc.value_counts(elements).field("counts")
        rare = pc.sum(pc.filter(counts, pc.less(counts, column.min_count))).as_py() or 0
        if rare > _UNKNOWN * len(elements):
            return [
                Finding(
                    "note",
                    column.name,
                    "rare_values",
                    f"{rare / len(elements):.1%} of the values occur less than "
                    f"min_count = {column.min_count} times.",
                    "They share the id of unknown values.",
                    "Lower `min_count`, or leave it: what is that rare teaches little.",
                )
            ]
    if column.encoding == "hash" and profile_.distinct_in_log > column.num_buckets:
        return [
            Finding(
                "warning",
                column.name,
                "full_hash",
                f"About {profile_.distinct_in_log:,} values share {column.num_buckets:,} buckets.",
                "Most of them get the embedding of another value too.",
                f"Set num_buckets to {2 * profile_.distinct_in_log:,} or more.",
            )
        ]
    return []


def _of_group(
    column: ColumnSpec, evidence: Evidence, values: pa.ChunkedArray, clicks: np.ndarray
) -> list[Finding]:
    findings = []
    if not evidence.of_user:
        what = "Users change it from row to row."
        why = "A group is what is known of a user before the training window."
        findings.append(Finding("warning", column.name, "changing_group", what, why, ""))
    if column.encoding in ("identity", "vocabulary"):
        table = pa.table({"group": values, "click": clicks})
        sums = table.group_by("group").aggregate([("click", "sum")])
        small = sums.filter(pc.less(sums["click_sum"], _MIN_GROUP_CLICKS))
        if small.num_rows:
            names = ", ".join(str(v) for v in small["group"].to_pylist()[:5])
            findings.append(
                Finding(
                    "note",
                    column.name,
                    "small_groups",
                    f"{small.num_rows} groups have less than {_MIN_GROUP_CLICKS} clicks: {names}.",
                    "Their confidence is drawn towards that of all.",
                    "",
                )
            )
    return findings
