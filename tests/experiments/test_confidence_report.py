"""The confidence function as a reader sees it."""

from __future__ import annotations

import io

from rich.console import Console

from experiments.confidence_report import print_confidence

ROWS = [
    {"group": "pooled", "rows": 1500.0, "noise_rate": 0.1, "clicks": 600.0, "mean_confidence": 0.7},
    {
        "group": "<16",
        "rows": 900.0,
        "noise_rate": 0.05,
        "noise_rate_low": 0.04,
        "noise_rate_high": 0.0625,
        "clicks": 0.0,
        "mean_confidence": None,
    },
]


def test_a_line_for_each_group_and_the_rate_with_its_interval():
    console = Console(file=io.StringIO(), width=120)
    print_confidence(ROWS, console)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    told = {cells[1]: cells for cells in lines if len(cells) > 1}
    header = " ".join(told["group"])
    assert "mean confidence" in header and "noise_rate_low" not in header
    assert " ".join(told["pooled"]).replace("│ ", "") == "pooled 1,500 0.100 600 0.700 │"
    assert "0.050 (0.040 to 0.062)" in " ".join(told["<16"])
