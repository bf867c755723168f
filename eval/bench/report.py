"""What `run.measure` found -> figures beside their bars, tables as text, and one plot of cost against size.

Ratios are formed within a round, of processes that ran one after the other; a figure is the median of its rounds and
stands beside the least and the greatest of them. Percentiles of what a search is made of are of all rounds together,
for each question meets each part in another round.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from assistant.errors import CorpusError

BARS = Path(__file__).parent.parent / "floors" / "bench.json"
"""For each figure its bar (`least` or `most`), and what to reach for."""
RECALL_AT, LARGEST = "100000", "1000000"
"""The made-up libraries of which recall and filters, and the bandwidth, are figures."""

Round = dict[str, Any]


def figures(found: Mapping[str, Any], bars: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return value, spread and bar of each figure that was measured.

    Args:
        found: What `run.measure` returned.
        bars: As `read_bars` returns them.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, each in _values(found):
        middle, low, high = (round(value, 4) for value in each)
        bar = bars.get(name, {})
        met = bar.get("least", -math.inf) <= middle <= bar.get("most", math.inf)
        rows[name] = {"value": middle, "low": low, "high": high, **bar, "met": met}
    return rows


def read_bars(file: Path) -> dict[str, Any]:
    """Return the bars in a file, `{"ingest again / first": {"most": 0.02}}`; what is no such file is a CorpusError."""
    try:
        bars: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for each in bars.values():
            float(each.get("least", 0)) + float(each.get("most", 0))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CorpusError(f"cannot read the bars in {file}: {error}; write them like those in {BARS}") from error
    return bars


def missed(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each figure that misses its bar."""
    return [f"{name}: {row['value']} is {_bar(row)}" for name, row in rows.items() if not row["met"]]


def _values(found: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Yield name, value, least and greatest of each figure whose parts were measured."""
    machine, texts = found["machine"], found["texts"]
    ingested, searched = found["ingest"], found["search"]
    peered = [each for each in ingested if "peer" in each]
    if peered:
        yield "ingest, LC / ours", _spread([each["peer"]["seconds"] / each["ours"]["seconds"] for each in peered])
    if ingested:
        peak = max(machine["bf16_flops"])
        shares = [texts["flops"] / each["ours"]["encoding"] / peak for each in ingested]
        yield "encoding, share of bf16 peak", _spread(shares)
        yield "ingest again / first", _spread([each["ours"]["again"] / each["ours"]["seconds"] for each in ingested])
    rounds = searched.get("papers", {}).get("rounds", [])
    both = [each for each in rounds if "peer" in each]
    if both:
        ratio = _Ratio(both)
        yield "start to first result, ours / LC", ratio(lambda one: one["first_seconds"])
        yield "search p50, ours / LC", ratio(lambda one: median(one["ms"]))
        yield "peak memory of a query, ours / LC", ratio(lambda one: one["peak_bytes"])
    if rounds:
        yield "search p95 / (encode p95 + scan p95)", _pooled(rounds, _overhead)
        yield "hybrid p50 / dense p50", _pooled(rounds, lambda ms: median(ms["search"]) / median(ms["dense"]))
    if answered := searched.get("papers", {}).get("answers", []):
        yield "answer, our own part, ms", _spread([_own_part(each) for each in answered])
        yield "streaming, our own part, ms a token", _spread([_own_part_of_token(each) for each in answered])
        yield "extractive answer without encoding, ms", _spread([_extractive(each) for each in answered])
    if rounds := searched.get(RECALL_AT, {}).get("rounds", []):
        yield "recall@10 against exact, 100k", _spread([each["parts"]["recall"] for each in rounds])
        yield "filtered p50 / unfiltered p50, 100k", _pooled(rounds, _filtered)
    if rounds := searched.get(LARGEST, {}).get("rounds", []):
        limit = 1000 * rounds[0]["parts"]["scan_bytes"] / max(machine["read_bytes_s"])
        yield "search p50 / bandwidth limit, 1M", _spread([median(each["ours"]["ms"]) / limit for each in rounds])
    if found["help"]:
        ratios = [each["help"] / each["bare"] for each in found["help"]]
        yield "assistant --help / python -c pass", _spread(ratios)


def _own_part(answered: Mapping[str, Any]) -> float:
    """Return what a short answer takes beside the encoding of the question and the endpoint's reply."""
    ms, n = answered["ms"], min(answered["tokens"])
    return float(median(ms[f"answer {n}"]) - median(ms[f"request {n}"]) - median(ms["encode"]))


def _extractive(answered: Mapping[str, Any]) -> float:
    return float(median(answered["ms"]["extractive"]) - median(answered["ms"]["encode"]))


def _own_part_of_token(answered: Mapping[str, Any]) -> float:
    ms, (short, long) = answered["ms"], sorted(answered["tokens"])
    ours, bare = (median(ms[f"{what} {long}"]) - median(ms[f"{what} {short}"]) for what in ("answer", "request"))
    return float((ours - bare) / (long - short))


class _Ratio:
    """Ours / the peer's of something, round by round."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        self._rounds = rounds

    def __call__(self, take: Callable[[Round], float]) -> tuple[float, float, float]:
        return _spread([take(each["ours"]) / take(each["peer"]) for each in self._rounds])


def _overhead(ms: Mapping[str, Sequence[float]]) -> float:
    return p95(ms["search"]) / (p95(ms["encode"]) + p95(ms["scan"]))


def _filtered(ms: Mapping[str, Sequence[float]]) -> float:
    return median(ms["filtered"]) / median(ms["search"])


def _pooled(
    rounds: Sequence[Round], figure: Callable[[Mapping[str, list[float]]], float]
) -> tuple[float, float, float]:
    """Return a figure of all rounds' times together, and its least and greatest of one round."""
    single = [figure(each["parts"]["ms"]) for each in rounds]
    return figure(_together(rounds)), min(single), max(single)


def _together(rounds: Sequence[Round]) -> dict[str, list[float]]:
    names = rounds[0]["parts"]["ms"]
    return {name: [each for one in rounds for each in one["parts"]["ms"][name]] for name in names}


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


def p95(values: Sequence[float]) -> float:
    """Return the least value that 95 of 100 do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


# --- Tables -----------------------------------------------------------------------------------------------------------


def costs(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each size searched what it costs us and the peer, and the floor: encoding and the scan at best."""
    rows = []
    for name, size in found["search"].items():
        rounds, machine = size["rounds"], found["machine"]
        parts = rounds[0]["parts"]
        seconds = parts["flops"] / max(machine["bf16_flops"]) + parts["scan_bytes"] / max(machine["read_bytes_s"])
        row: dict[str, Any] = {"size": name, "chunks": size["chunks"], "floor_ms": 1000 * seconds}
        for side in ("ours", "peer"):
            if side in rounds[0]:
                own = [each[side] for each in rounds]
                row[f"{side}_ms"] = _spread([median(each["ms"]) for each in own])
                row[f"{side}_p95_ms"] = median(p95(each["ms"]) for each in own)
                row[f"{side}_start_s"] = _spread([each["first_seconds"] for each in own])
                row[f"{side}_mb"] = median(each["peak_bytes"] for each in own) / 1e6
        middles = {name: median(values) for name, values in _together(rounds).items()}
        rows.append({**row, "parts_ms": middles, "recall": median(each["parts"]["recall"] for each in rounds)})
    return rows


def tables(found: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures, the costs by size and the machine's limits as text."""
    lines = [f"\n{'figure':42}{'value':>9}  {'spread':17}{'bar':>12}{'reach for':>11}"]
    for name, row in rows.items():
        spread = f"{row['low']:.3f} - {row['high']:.3f}"
        met = "met" if row["met"] else "missed"
        lines.append(f"{name:42}{row['value']:9.3f}  {spread:17}{_bar(row):>12}{row.get('reach', '')!s:>11}  {met}")
    if found["ingest"]:
        lines += _ingest_table(found)
    if found["search"]:
        lines += _search_tables(costs(found))
    machine = found["machine"]
    best = (max(machine[name]) / 1e9 for name in ("fp32_flops", "bf16_flops", "read_bytes_s"))
    lines.append("\nlimits: fp32 {:.0f} and bf16 {:.0f} GFLOP/s, reading {:.1f} GB/s".format(*best))
    lines.append(
        "{cpus} CPUs ({model}), Python {python}, load {load} before and {load_after} after".format_map(machine)
    )
    return "\n".join(lines)


def _ingest_table(found: Mapping[str, Any]) -> list[str]:
    texts = found["texts"]
    lines = [f"\n{'ingest':14}{'seconds':>9}  {'spread':17}{'tokens/s':>10}{'whole process':>15}"]
    for side, name in (("ours", "ours"), ("peer", "LC")):
        own = [each[side] for each in found["ingest"] if side in each]
        if own:
            middle, low, high = _spread([each["seconds"] for each in own])
            rate, process = texts["tokens"] / middle, median(each["process_seconds"] for each in own)
            lines.append(f"{name:14}{middle:9.1f}  {f'{low:.1f} - {high:.1f}':17}{rate:10,.0f}{process:13.1f} s")
    floor = texts["flops"] / max(found["machine"]["bf16_flops"])
    lines.append(f"{'floor':14}{floor:9.1f}  {'bf16 peak':17}{texts['tokens'] / floor:10,.0f}")
    lines.append("{papers:,} papers, {chunks:,} chunks; {texts:,} texts of {tokens:,} tokens".format_map(texts))
    return lines


def _search_tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = ("floor", "ours p50", "spread", "p95", "LC p50", "p95", "start s", "LC", "MB", "LC")
    widths = (7, 10, 18, 8, 8, 8, 9, 7, 8, 8)
    lines = [
        "\n" + f"{'search, ms':>16}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    ]
    for row in rows:
        middle, low, high = row["ours_ms"]
        cells = [f"{row['floor_ms']:.2f}", f"{middle:.2f}", f"{low:.2f} - {high:.2f}", f"{row['ours_p95_ms']:.2f}"]
        cells += [_cell(row, "peer_ms", 2), _cell(row, "peer_p95_ms", 2)]
        cells += [_cell(row, f"{side}_start_s", 2) for side in ("ours", "peer")]
        cells += [_cell(row, f"{side}_mb", 0) for side in ("ours", "peer")]
        lines.append(f"{row['chunks']:9,} chunks" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    names = list(dict.fromkeys(name for row in rows for name in row["parts_ms"]))
    lines.append("\n" + f"{'parts, p50 ms':>16}" + "".join(f"{name:>10}" for name in (*names, "recall")))
    for row in rows:
        cells = [f"{row['parts_ms'][name]:.2f}" if name in row["parts_ms"] else "-" for name in names]
        cells.append(f"{row['recall']:.4f}")
        lines.append(f"{row['chunks']:9,} chunks" + "".join(f"{cell:>10}" for cell in cells))
    return lines


def _cell(row: Mapping[str, Any], name: str, digits: int) -> str:
    value = row.get(name, "-")
    return value if isinstance(value, str) else f"{value[0] if isinstance(value, tuple) else value:.{digits}f}"


def _bar(row: Mapping[str, Any]) -> str:
    words = {"least": ">=", "most": "<="}
    return " ".join(f"{sign} {row[name]:g}" for name, sign in words.items() if name in row)


# --- Plot -------------------------------------------------------------------------------------------------------------


def draw(found: Mapping[str, Any], file: Path) -> None:
    """Draw what a search costs against the size of the library, as SVG: ours, the peer's and the floor."""
    from matplotlib import style
    from matplotlib.figure import Figure

    rows = costs(found)
    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9}]):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        time, memory = figure.subplots(1, 2)
        _lines(time, rows, {"ours": "ours_ms", "LangChain + Chroma": "peer_ms", "floor": "floor_ms"})
        _lines(memory, rows, {"ours": "ours_mb", "LangChain + Chroma": "peer_mb"})
        time.set(title="a search, median, ms", yscale="log")
        memory.set(title="memory of a process that searches, MB", ylim=(0, None))
        sizes = [row["chunks"] for row in rows]
        for axes in (time, memory):
            axes.set(xlabel="chunks in the library", xscale="log")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.minorticks_off()
            axes.grid(visible=True, alpha=0.3)
        time.legend(frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _lines(axes: Any, rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    for label, name in names.items():
        own = [row for row in rows if name in row]
        middles = [row[name][0] if isinstance(row[name], tuple) else row[name] for row in own]
        is_floor = label == "floor"
        axes.plot(
            [row["chunks"] for row in own],
            middles,
            label=label,
            marker=None if is_floor else "o",
            linestyle=":" if is_floor else "-",
            color="0.5" if is_floor else None,
        )
        if not is_floor:
            low, high = ([row[name][i] if isinstance(row[name], tuple) else row[name] for row in own] for i in (1, 2))
            axes.fill_between([row["chunks"] for row in own], low, high, alpha=0.2, linewidth=0)
