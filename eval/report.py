"""One page of HTML from results: tables, plots, paired comparisons and the worst queries.

In: files written with `--out`, a study, and the refusal's curve. Out: one file that asks nothing of any network, the
same bytes for the same input. Refused: a file that is no result, and a place that cannot be written. How it looks is
in `report.html`, where every text is escaped.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assistant import abstain
from assistant.errors import ConfigError, CorpusError
from eval.answers import ANSWERED
from eval.measures import Estimate, compare, estimate

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
STUDY = RESULTS / "study.json"
MEASURES = ("nDCG@10", "Recall@10", "Recall@10 (grade 2)", "Recall@100", "MRR@10", "Success@1", "Success@5")
MAIN, GRADED = MEASURES[0], MEASURES[2]
OWN = "hybrid"
"""The product's own system, which the others are compared with."""
WORST = 10
"""Queries shown of those with the least nDCG@10."""
NEGATIVES = {"unanswerable": "unanswerable", "without": "answerable, its paper removed", "off_topic": "off topic"}
"""Groups of examples that a refusal should catch, see `fit.py`."""
MARKERS, SIGNS = "osD^vPX", "●■◆▲▼✚✖"
"""Matplotlib's markers, and the same for the text of the page; each goes with a colour of the page."""
INK, FAINT, COLOUR = "#10b0f0", "#10b0f1", "#10b00"
"""Stand-ins in a plot, replaced by the page's own colours, so that plots follow light and dark."""
WIDTH = 4.5
"""Inches of a plot: 324 units, so that its text stays readable on a phone."""
STYLE = {
    "font.size": 9, "svg.fonttype": "none", "text.parse_math": False, "axes.grid": True, "grid.color": FAINT,
    "grid.linewidth": 0.6, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "axes.spines.left": False,
    "axes.spines.right": False, "axes.spines.top": False, "xtick.color": FAINT, "xtick.labelcolor": INK,
    "ytick.color": FAINT, "ytick.labelcolor": INK, "ytick.major.size": 0,
}  # fmt: skip


def write_report(out: Path, files: Sequence[Path] = ()) -> int:
    """Write the page, whole or not at all, and return how many results it shows.

    Args:
        out: Where it goes; what is there is replaced.
        files: Results and studies; none means those of `eval/results`, whose study is shown beside others, too.

    Raises:
        ConfigError: `out` cannot be written.
        CorpusError: A file cannot be read or is no result.
    """
    _check_out(out)
    given = list(dict.fromkeys(files or sorted(RESULTS.glob("*.json"))))
    if STUDY.exists() and STUDY.resolve() not in {file.resolve() for file in given}:
        given.append(STUDY)
    views = [_read(file, partial(_view, salt=f"r{n}")) for n, file in enumerate(given, 1)]
    refusal = _read(abstain.MODEL, _refusal)
    looks = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    looks.filters |= {"signed": _signed}
    page = looks.get_template("report.html").render(views=_named(views, given), refusal=refusal, main=MAIN, own=OWN)
    _write(out, page)
    return len(given)


def _check_out(out: Path) -> None:
    """Refuse, before anything is computed, what would fail later or overwrite a result that was meant as input."""
    try:
        if not out.parent.is_dir():
            raise _unwritable(out, f"there is no folder {out.parent}")
        if out.suffix == ".json":
            raise _unwritable(out, "that is the name of a result, and the page is a file of HTML")
        if out.exists() and not out.is_file():
            raise _unwritable(out, "it is no ordinary file")
    except OSError as error:
        raise _unwritable(out, error.strerror) from error


def _write(out: Path, page: str) -> None:
    draft = out.with_name(f".report-{os.getpid()}.draft")
    try:
        # Half a surrogate pair is legal in JSON and in no file.
        draft.write_bytes(page.encode("utf-8", "replace"))
        draft.replace(out)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(out, error.strerror) from error


def _unwritable(out: Path, why: str | None) -> ConfigError:
    return ConfigError(f"cannot write the report to {out}: {why}; choose another place, such as report.html")


def _read(file: Path, view: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    try:
        return view(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error.strerror}; give a file written with --out") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        found = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CorpusError(f"{file} is no result: {found}; give a file written with --out") from error


def _named(views: list[dict[str, Any]], files: Sequence[Path]) -> list[dict[str, Any]]:
    """Name each result by its file, by the whole path where two are called the same; retrieval goes first."""
    stems = [file.stem for file in files]
    names = [file.stem if stems.count(file.stem) == 1 else str(file) for file in files]
    named = [view | {"name": name} for view, name in zip(views, names, strict=True)]
    return sorted(named, key=lambda view: view["what"] != "retrieval")


def _view(raw: Any, salt: str) -> dict[str, Any]:
    """Return what the page shows of a file; every number in it is checked here."""
    if not isinstance(raw, dict):
        raise TypeError(f"it holds a {type(raw).__name__}, no object")
    if "rows" in raw and "collections" in raw:
        return {"what": "study", "id": salt, **_study(raw)}
    views = {"retrieval": _retrieval, "answers": _answers}
    if raw.get("what") not in views:
        raise ValueError(f"its 'what' is {raw.get('what')!r}, neither retrieval nor answers")
    stamp = {key: raw.get(key) for key in ("commit", "encoder", "config", "library", "questions", "bench", "model")}
    if not raw["per_query"]:
        raise ValueError("it holds no query")
    stamp |= {"what": raw["what"], "id": salt, "n": len(raw["per_query"]), "skipped": raw.get("skipped")}
    return stamp | views[raw["what"]](raw, salt)


def _retrieval(raw: Mapping[str, Any], salt: str) -> dict[str, Any]:
    systems = list(raw["systems"]["all"])
    tables = {
        kind: {system: {name: _estimate(table[system][name]) for name in MEASURES} for system in systems}
        for kind, table in raw["systems"].items()
    }
    rows = [row for table in tables.values() for row in table.values()]
    values = {system: {q: _number(each[system][MAIN]) for q, each in raw["per_query"].items()} for system in systems}
    worst = sorted(values[OWN], key=values[OWN].__getitem__)[:WORST]
    return {
        "tables": tables,
        "measures": [name for name in MEASURES if name != GRADED or any(row[name].mean for row in rows)],
        "best": {
            kind: {name: max(row[name].mean for row in table.values()) for name in MEASURES}
            for kind, table in tables.items()
        },
        "headline": (f"{MAIN}, {OWN}", tables["all"][OWN][MAIN]),
        "marks": _marks(systems),
        "plot": _draw(0.7 + 0.11 * sum(len(table) + 1 for table in tables.values()), salt, _paint_tables, tables),
        "comparisons": {name: compare(values[name], values[OWN]) for name in systems if name != OWN},
        "at_zero": sum(not value for value in values[OWN].values()),
        "worst": [_query(query, raw["per_query"][query], {s: values[s][query] for s in systems}) for query in worst],
    }


def _query(name: str, raw: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    titles = {key: [str(title) for title in raw.get(key) or ()] for key in ("found", "missed")}
    return {"id": name, "kind": str(raw["kind"]), "question": raw.get("question"), "values": values, **titles}


def _answers(raw: Mapping[str, Any], _: str) -> dict[str, Any]:
    tables = {kind: {name: _estimate(row[name]) for name in ANSWERED} for kind, row in raw["tables"].items()}
    found = raw["abstention"]
    refused = [float(not each["answerable"]) for each in raw["per_query"].values() if each["refused"]]
    return {
        "tables": tables,
        "measures": ANSWERED,
        "cost": {
            kind: {name: _number(row[name], most=math.inf) for name in ("calls", "tokens")}
            for kind, row in raw["tables"].items()
        },
        "headline": (f"fact recall, {raw.get('model') or 'extractive'}", tables["all"]["fact recall"]),
        "abstention": {
            "precision: of the refused, unanswerable": estimate(refused),
            "recall: of the unanswerable, refused": _estimate(found["unanswerable refused"]),
            "false refusals: of the answerable, refused": _estimate(found["answerable refused"]),
        },
        "F1": _number(found["F1"]),
    }


def _refusal(raw: Mapping[str, Any]) -> dict[str, Any]:
    curve = [{name: _number(row[name]) for name in ("threshold", "answerable", *NEGATIVES)} for row in raw["curve"]]
    used = min(curve, key=lambda row: abs(row["threshold"] - float(raw["threshold"])))
    return {
        "curve": curve,
        "used": used,
        "negatives": NEGATIVES,
        "marks": _marks(list(NEGATIVES.values())),
        "plot": _draw(3.0, "refusal", _paint_curve, curve, used),
    }


def _study(raw: Mapping[str, Any]) -> dict[str, Any]:
    names = [str(name) for name in raw["collections"]]
    rows = [
        {key: str(row[key]) for key in ("part", "variant")}
        | {"cells": [_cell(row["collections"].get(name)) for name in names]}
        for row in raw["rows"]
    ]
    return {"collections": names, "rows": rows}


def _cell(raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a mean of a study with what the default may lack: its difference from the default."""
    if not raw:
        return {}
    difference, p = raw.get("difference"), raw.get("p")
    return {
        "mean": _number(raw["mean"]),
        "difference": _estimate(difference) if difference else None,
        "p": None if p is None else _number(p),
    }


def _estimate(raw: Mapping[str, Any]) -> Estimate:
    n = int(raw["n"])
    mean, low, high = (_number(raw[name]) if n else math.nan for name in ("mean", "low", "high"))
    return Estimate(mean, low, high, n)


def _number(raw: Any, most: float = 1.0) -> float:
    """Refuse what is no value of a measure; a sum of rounded parts may pass 1 by a hair."""
    if not abs(value := float(raw)) <= most + 1e-6 or math.isinf(value):
        raise ValueError(f"{raw!r} is no value of a measure")
    return value


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _marks(names: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return the number of a colour and the sign of each name; there are seven."""
    return {name: (i % len(SIGNS), SIGNS[i % len(SIGNS)]) for i, name in enumerate(names)}


def _paint_tables(axes: Axes, tables: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> None:
    """Paint dots and whiskers, kinds from the top, a kind's systems one under the other."""
    y, ticks = 0, []
    for table in tables.values():
        ticks.append(y + (len(table) - 1) / 2)
        for name, (i, _) in _marks(list(table)).items():
            found, size = table[name][MAIN], 5.5 if name == OWN else 4
            axes.plot([found.low, found.high], [y, y], color=f"{COLOUR}{i}", linewidth=1.3)
            axes.plot([found.mean], [y], color=f"{COLOUR}{i}", marker=MARKERS[i], markersize=size, clip_on=False)
            y += 1
        axes.axhline(y, color=FAINT, linewidth=0.6)
        y += 1
    axes.set_yticks(ticks, [kind if len(kind) < 24 else kind[:22] + "…" for kind in tables])
    axes.set_ylim(y - 1, -1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{MAIN}, mean and 95 % interval")


def _paint_curve(axes: Axes, curve: Sequence[Mapping[str, float]], used: Mapping[str, float]) -> None:
    """Paint the share refused of each negative group over the share refused of the answerable."""
    x = [row["answerable"] for row in curve]
    axes.axvline(used["answerable"], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    for name, (i, _) in _marks(list(NEGATIVES)).items():
        colour = f"{COLOUR}{i}"
        axes.plot(x, [row[name] for row in curve], color=colour, linewidth=1.4, marker=MARKERS[i], markersize=2.5)
        axes.plot([used["answerable"]], [used[name]], color=colour, marker=MARKERS[i], markersize=7)
    axes.set_xlim(0, max(x) * 1.03 or 1)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("answerable questions refused, share")
    axes.set_ylabel("others refused, share")


def _draw(height: float, salt: str, paint: Callable[..., None], *what: Any) -> str:
    """Return a plot as an SVG element in the page's own colours; `salt` keeps its ids apart from other plots'."""
    page = io.StringIO()
    with style.context(["default", STYLE | {"svg.hashsalt": salt}]), warnings.catch_warnings():
        # The reader's fonts draw the text; that ours lacks a letter of it does not matter.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure.subplots(), *what)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(page, format="svg", transparent=True, metadata=nothing)
    opening, _, drawn = page.getvalue().partition("<svg ")[2].partition(">")
    drawn = re.sub(r"<style.*?</style>", "", drawn, flags=re.DOTALL)
    # Only shapes that are used again need their ids, which are salted; counted ones are the same in each plot.
    drawn = re.sub(r' id="[\w.]+_\d+"', "", drawn)
    drawn = re.sub(rf"{COLOUR}(\d)", r"var(--c\1)", drawn.replace(INK, "var(--ink)").replace(FAINT, "var(--line)"))
    box = re.search(r'viewBox="[^"]*"', opening)
    return f"<svg {box[0] if box else ''}>{drawn}"
