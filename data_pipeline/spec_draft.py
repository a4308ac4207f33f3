"""A commented spec of an unknown log: what its columns look like, and what has to be decided."""

from __future__ import annotations

import dataclasses
import json
import re

from data_pipeline.log_profile import LogProfile
from data_pipeline.spec_draft_sections import further_sections, split_section
from data_pipeline.spec_encodings import Options, suggest_encoding, suggest_group, suggest_id
from data_pipeline.spec_findings import Evidence, Finding, findings_of
from data_pipeline.spec_roles import Named, looks_like_group
from data_pipeline.toml_text import comment, inline_table

_SECTIONS = {
    "keys": "Who saw what, when, and whether it was clicked.",
    "group": "Groups of users, for which the confidence of clicks is adapted.",
    "feature": "What is known when the item is shown: inputs of the model.",
    "satisfaction": "Known only after the click: judges models, is never an input.",
    "ignore": "Left out.",
}


@dataclasses.dataclass(frozen=True)
class Draft:
    """A drafted spec.

    Attributes:
      text: TOML with comments.
      findings: that led to it.
      edits: what has to be decided before it can be used; each stands in the text as "EDIT".
    """

    text: str
    findings: tuple[Finding, ...]
    edits: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Column:
    """One column of the draft."""

    name: str
    options: Options
    comments: list[str]
    section: str


def draft_spec(log: LogProfile, name: str) -> Draft:
    """Writes a spec of the log, called `name`."""
    roles, edits = log.roles, []
    group = _group(log)
    columns, findings = [], []
    for evidence in log.evidence.values():
        column, found = _column(evidence, log, group)
        columns.append(column)
        findings += found
    for role in roles.missing:
        edits.append(_missing(role, log))
    if roles.label and not 0 < log.click_rate < 1:
        edits.append(
            f"All rows have the same label '{roles.label}'. A model needs clicks and impressions "
            "that were not clicked; log those too."
        )
    if roles.positive_from is not None:
        edits.append(
            f"Is a click a '{roles.label}' of at least {roles.positive_from:g}? If not, change "
            "`positive_from`."
        )
    lines = [
        f"# Drafted by `clsd-spec draft` from {log.files.listed()}: {log.sample.rows:,} rows, of "
        f"which {log.sample.size:,} were looked at.",
        "# Read every comment; what is certain is only what the values show.",
        "# `clsd-spec check` tells what is still odd about it.",
        f"name = {json.dumps(name)}",
    ]
    for edit in edits:
        lines += ["", *comment(f"EDIT: {edit}")]
    lines += ["", *split_section(log), "", *further_sections(log, has_group=group is not None)]
    lines += ["", "[columns]"]
    for section, title in _SECTIONS.items():
        own = [column for column in columns if column.section == section]
        if not own:
            continue
        lines += [f"# {title}", ""] if section == "keys" else ["", f"# {title}", ""]
        for column in own:
            lines += [line for text in column.comments for line in comment(text)]
            lines.append(f"{column.name} = {inline_table(column.options)}")
    return Draft("\n".join(lines) + "\n", tuple(findings), tuple(edits))


def _column(
    evidence: Evidence, log: LogProfile, group: str | None
) -> tuple[_Column, list[Finding]]:
    column, raw, roles = evidence.column, evidence.raw, log.roles
    role = _role(evidence, log, group)
    found = [] if role in ("label", "timestamp") else findings_of(evidence)
    if column.name == roles.day or role in ("user", "item"):
        found = [finding for finding in found if finding.code not in ("leak",)]
    options: Options = {} if role == "feature" else {"role": role}
    options["type"] = column.type
    name = re.sub(r"\W+", "_", column.name, flags=re.ASCII).strip("_") or "column"
    name = f"c_{name}" if name[0].isdigit() else name
    if name != column.name:
        options["source"] = column.name
    reason = ""
    if role in ("user", "item"):
        more, reason = suggest_id(column)
    elif role == "group":
        more, reason = suggest_group(column, raw)
    elif role == "feature":
        more, reason = _feature(evidence, log)
    else:
        more = {}
        if role == "timestamp" and roles.unit is not None:
            more = {"unit": roles.unit}
            reason = f"An epoch in {_UNIT_NAMES[roles.unit]}."
        if role == "label" and roles.positive_from is not None:
            more = {"positive_from": roles.positive_from}
        if role == "ignore" and column.is_list:
            options["max_length"] = 1
    comments = [_described(evidence, reason)]
    if role == "label":
        comments.append(f"{log.click_rate:.2%} of the rows are clicks.")
    if column.name == roles.day:
        comments.append("The day; the split is by it.")
    if role == "ignore" and raw.is_time and column.name != roles.day:
        comments.append("Another time; there is no encoding for times.")
    found = [_decided(finding, role) for finding in found]
    comments += [f"{f.level.upper()}: {f.what} {f.why} {f.mend}".rstrip() for f in found]
    section = "keys" if role in ("label", "user", "item", "timestamp", "weight") else role
    return _Column(name, options | more, comments, section), found


def _decided(finding: Finding, role: str) -> Finding:
    """A finding as the draft has answered it."""
    if role not in ("satisfaction", "ignore") or finding.level == "note":
        return finding
    done = "It judges models here" if role == "satisfaction" else "It is left out here"
    mend = f'{done} (role = "{role}"); if it is known before the click, give it an encoding.'
    if finding.code != "post_click":
        mend = f'{done} (role = "{role}").'
    return dataclasses.replace(finding, level="warning", mend=mend)


_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}


def _role(evidence: Evidence, log: LogProfile, group: str | None) -> str:
    column, roles = evidence.column, log.roles
    for role in ("label", "user", "item", "timestamp", "weight"):
        if getattr(roles, role) == column.name:
            return role
    if column.name == group:
        return "group"
    if column.name == roles.day or evidence.raw.is_time:
        return "ignore"
    codes = {finding.code for finding in findings_of(evidence)}
    if "post_click" in codes:
        usable = column.type != "string" and not column.is_list and not column.is_constant
        return "satisfaction" if usable else "ignore"
    return "ignore" if codes & {"leak", "constant", "nearly_unique", "free_text"} else "feature"


def _feature(evidence: Evidence, log: LogProfile) -> tuple[Options, str]:
    column, item = evidence.column, log.roles.item
    if column.is_list and item is not None and log.evidence[item].column.type == column.type:
        examples = set(log.evidence[item].column.examples)
        words = {"history", "clicked", "viewed", "watched", "recent", *log.evidence[item].words}
        if examples.intersection(column.examples) or words.intersection(evidence.words) - {"id"}:
            options, _ = suggest_encoding(column, evidence.raw)
            kept = {k: v for k, v in options.items() if k in ("max_length", "separator")}
            owner = re.sub(r"\W+", "_", item, flags=re.ASCII).strip("_")
            return {"shares": owner, **kept}, f"Probably items: it shares the ids of '{owner}'."
    return suggest_encoding(column, evidence.raw)


def _group(log: LogProfile) -> str | None:
    taken = {getattr(log.roles, field.name) for field in dataclasses.fields(log.roles)}
    candidates = [
        evidence
        for name, evidence in log.evidence.items()
        if name not in taken
        and evidence.of_user
        and not evidence.is_post_click
        and looks_like_group(Named(evidence.column, evidence.raw))
    ]
    return min(candidates, key=lambda e: e.column.distinct).column.name if candidates else None


def _described(evidence: Evidence, reason: str) -> str:
    column = evidence.column
    kind = f"{column.type}{' lists' if column.is_list else ''}"
    distinct = f"{column.distinct_in_log:,} different values"
    missing = f", {column.missing:.1%} missing" if column.missing else ""
    examples = ", ".join(_shortened(example) for example in column.examples)
    about = "about " if column.rows < column.log_rows else ""
    text = f"{kind}, {about}{distinct}{missing}" + (f"; such as {examples}." if examples else ".")
    if column.low is not None and column.distinct > 3 and not column.is_list:
        form = ".0f" if column.type == "int" else ".6g"
        text += f" From {column.low:{form}} to {column.high:{form}}."
    return f"{text} {reason}".strip()


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 24 else f"{text[:21]}..."


def _missing(role: str, log: LogProfile) -> str:
    columns = [e.column for e in log.evidence.values() if not e.column.is_list]
    if role == "label":
        columns = [column for column in columns if (column.low, column.high) == (0, 1)]
    elif role == "timestamp":
        names = [n for n, e in log.evidence.items() if e.raw.is_time]
        columns = [c for c in columns if c.name in names or (c.low or 0) > 1e8]
    else:
        columns = [column for column in columns if column.type != "float" and column.distinct > 1]
        columns = sorted(columns, key=lambda column: -column.distinct)
    listed = ", ".join(f"'{column.name}'" for column in columns[:5]) or "none"
    text = (
        f'No column looks like the {role} by its name. Set role = "{role}" below, or draft again '
        f"with --{role}=COLUMN. Candidates by their values: {listed}."
    )
    if role == "label":
        text += (
            " Without it nobody looked for columns that are known after the click alone: below "
            "they stand among the inputs, and so does the label. A label is 1 or 0, or a number."
        )
    return text
