"""The benchmark: `sudo ./bench/run [--quick] [--only NAME ...]`. Writes docs/benchmarks.md and
docs/benchmarks.svg.

Progress and every figure are printed as they come. A part that fails says why, leaves a hole in the table,
and ends nothing else. The exit code is 1 if anything could not be measured; a bar that is not reached is no
failure.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import classification
import commands
import drop_rates
import machine
import plot
import report
import variants
from harness import Harness
from study import Study

_VERDICTS = ((True, "reached"), (False, "not reached"), (None, "not measured"))
_DOCS = Path(__file__).resolve().parents[1] / "docs"


def parts() -> dict[str, Callable[[Study], None]]:
    """In this order; the live ones last, since they are the noisiest."""
    return {
        "10k": partial(classification.by_rules, rules=10_000),
        "100k": partial(classification.by_rules, rules=100_000),
        "growth": classification.growth,
        "ipv6": classification.ipv6,
        "traffic": classification.kinds_of_traces,
        "counting": variants.counting,
        "owners": variants.owned,
        "hooks": variants.both_hooks,
        "blocklist": variants.blocklist,
        "hostile": classification.hostile,
        "load": commands.of_yaml,
        "load-blocklist": commands.of_blocklist,
        "load-file": commands.of_rules_file,
        "xdp-filter": drop_rates.against_xdp_filter,
        "nft": drop_rates.against_nft,
        "live-curves": drop_rates.curves,
    }


def main() -> int:
    arguments = _arguments()
    if os.geteuid():
        sys.exit("bench: error: not root; nothing was measured")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    study = Study(arguments.quick, Harness(150_000 if arguments.quick else 300_000))
    for what, which in machine.describe():
        study.say(f"{what}: {which}")
    # Not the host's own; /tmp may be memory, where a load's fsync costs nothing.
    with tempfile.TemporaryDirectory(prefix="xdpguard-bench-", dir="/var/tmp") as records:
        os.environ["XDPGUARD_STATE"] = records
        for name, part in parts().items():
            if not arguments.only or name in arguments.only:
                study.attempt(name, partial(part, study))
    study.holes()
    _write(study, Path(arguments.out))
    reached = [row.reached for row in study.rows.values()]
    counts = (f"{reached.count(kind)} {word}" for kind, word in _VERDICTS)
    study.say(f"bars: {', '.join(counts)}")
    return 1 if study.failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run", description="Measure xdpguard beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer sets and rounds: three minutes")
    parser.add_argument("--only", nargs="+", choices=list(parts()), help="these parts alone", default=[])
    parser.add_argument("--out", default=str(_DOCS), help="folder for benchmarks.md and benchmarks.svg")
    return parser.parse_args()


def _write(study: Study, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture: str | None = None
    if study.curves:
        if importlib.util.find_spec("matplotlib") is None:
            study.failures.append("no plot: matplotlib is not installed (scripts/setup bench)")
        else:
            plot.draw(study.curves, folder / "benchmarks.svg")
            picture = "benchmarks.svg"
    text = report.markdown(study, machine.describe(), picture)
    (folder / "benchmarks.md").write_text(text)
    study.say(f"wrote {folder / 'benchmarks.md'}")


if __name__ == "__main__":
    sys.exit(main())
