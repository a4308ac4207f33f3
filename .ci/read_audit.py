"""Reads what pip-audit found: read_audit.py REPORT LOG. The status is 1 with a vulnerability."""

from __future__ import annotations

import json
import pathlib
import sys

_NOTHING = "audit: NOTHING WAS AUDITED; the advisories cannot be reached from here."


def told(report: pathlib.Path, log: pathlib.Path) -> tuple[str, int]:
    """What to say, and the status to end with."""
    if not report.is_file() or not report.read_text(encoding="utf-8").strip():
        return f"{_NOTHING} pip-audit said: {log.read_text(encoding='utf-8').strip()[-300:]}", 0
    packages = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    looked_up = [p for p in packages if "skip_reason" not in p]
    if not looked_up:
        return f"{_NOTHING} Of none of {len(packages)} packages they know the version.", 0
    found = [
        f"{p['name']} {p['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'none'}"
        for p in looked_up
        for v in p["vulns"]
    ]
    if found:
        return "\n".join(["audit: known vulnerabilities:", *found]), 1
    skipped = [p["name"] for p in packages if "skip_reason" in p]
    unknown = f"; of these nothing is known: {', '.join(skipped)}" if skipped else ""
    return f"audit: no known vulnerability in {len(looked_up)} packages{unknown}.", 0


if __name__ == "__main__":
    message, status = told(*map(pathlib.Path, sys.argv[1:]))
    print(message, file=sys.stderr)
    sys.exit(status)
