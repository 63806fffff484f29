"""Cost against number of rules, every system, as SVG. Needs matplotlib, which only the benchmark installs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

Curves = Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]
_COLOURS = {
    "xdpguard": "#0b6e4f", "xdpguard, TC": "#6bbf59", "two tries": "#c1292e", "prototype": "#8d6a9f",
    "xdp-filter (ports)": "#f18f01", "nftables, rules": "#235789", "nftables, interval set": "#6ba3d6",
    "iptables": "#7a7a7a",
}  # fmt: skip


def draw(curves: Curves, path: Path) -> None:
    """A panel for each kind of measurement."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "xdpguard"  # the same figure gives the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(curves), figsize=(5.2 * len(curves), 4.6), squeeze=False)
    for axes, (title, contenders) in zip(panels[0], curves.items(), strict=True):
        for name, points in contenders.items():
            rules, values = zip(*sorted(points), strict=True)
            width = 2.4 if name.startswith("xdpguard") else 1.4
            axes.plot(
                rules, values, "o-", label=name, color=_COLOURS.get(name), linewidth=width, markersize=4
            )
        axes.set_xscale("log")
        if title.startswith("live"):
            axes.set_yscale("log")
            axes.set_ylabel("ns a packet, generator and veth included")
        else:
            axes.set_ylim(bottom=0)
            axes.set_ylabel("added ns a packet")
        axes.set_xlabel("rules")
        axes.set_title(title)
        axes.grid(True, which="major", alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
