"""`python -m eval retrieval | answers | compare | report | ... | bench | soak | load`: measure, print tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from assistant import abstain
from assistant.config import Config
from assistant.embed import document_encoder, open_encoder
from assistant.errors import AssistantError, ConfigError, CorpusError
from assistant.index import Index
from assistant.rerank import open_reranker
from eval import data, measures
from eval.library import open_collection, open_papers
from eval.retrieval import SYSTEMS, Systems, evaluate, show_found

ROOT = Path(__file__).parent.parent
SHOWN = ("nDCG@10", "Recall@10", "Recall@10 (grade 2)", "Recall@100", "MRR@10", "Success@1", "Success@5")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure retrieval and answers; everything runs offline and gives the same numbers again."""


@cli.command()
@click.option("--bench", metavar="DIR", help="Collection in BEIR's layout.")
@click.option("--qrels", metavar="FILE", help="Judgements instead of the collection's qrels.tsv; BEIR or TREC columns.")
@click.option("--questions", metavar="FILE", help="Question file; needs --papers.")
@click.option("--papers", multiple=True, metavar="SOURCE", help="What the questions are about; may be repeated.")
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="FILE",
    help="TREC run: one that exists is scored beside ours; a name that is free receives ours.",
)
@click.option("--floor", metavar="FILE", help="JSON of least and greatest values; exit 1 when one is missed.")
@click.option("--out", metavar="FILE", help="Keep the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def retrieval(
    *, bench: str | None, qrels: str | None, questions: str | None, papers: tuple[str, ...], runs: tuple[str, ...],
    floor: str | None, out: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Score search: nDCG@10, recall, MRR and success, by kind, beside BM25, dense and RRF."""
    config = Config()
    encoder = document_encoder(config, open_encoder(config))
    peers = {Path(file).stem: data.read_run(Path(file)) for file in runs if Path(file).exists()}
    if taken := sorted(peers.keys() & set(SYSTEMS)):
        raise ConfigError(f"a run may not be named {taken[0]!r} like a system of ours; rename its file")
    if bench and not questions:
        collection = data.read_collection(Path(bench), Path(qrels) if qrels else None)
        store, asked, judged = open_collection(collection, encoder), collection.queries, collection.qrels
        judged = {question.id: judged[question.id] for question in asked}
        about: dict[str, Any] = {"bench": Path(bench).name, "skipped": collection.skipped}
    elif questions and papers and not bench:
        asked = data.read_questions(Path(questions))
        store = open_papers(papers, encoder)
        judged = data.judge(asked, store.papers())
        skipped = len(asked)
        asked = [question for question in asked if question.id in judged]
        about = {"questions": data.digest(Path(questions)), "skipped": skipped - len(asked)}
    else:
        raise ConfigError("nothing to measure; give --bench DIR, or --questions FILE with --papers SOURCE")
    reranker = open_reranker(config.reranker) if config.reranker else None
    found = Systems(store, Index.open(store), encoder, reranker).run(asked) | peers
    for file in runs:
        if not Path(file).exists():
            data.write_run(Path(file), found["hybrid"], "hybrid")
            print(f"eval: wrote our run to {file}", file=sys.stderr)
    stamp = {"library": store.digest(), "encoder": store.encoder, "config": config.digest, "commit": _commit()}
    result = {"what": "retrieval", **about, **stamp, **evaluate(judged, {q.id: q.kind for q in asked}, found)}
    show_found(result, judged, found["hybrid"], {paper.id: paper.title for paper in store.papers()})
    if questions:
        for each in asked:
            result["per_query"][each.id]["question"] = each.question
    _finish(result, out, as_json=as_json)
    if not as_json:
        _print_retrieval(result)
    if floor:
        _hold(result, Path(floor))


@cli.command()
@click.argument("a")
@click.argument("b")
@click.option("--measure", default="nDCG@10", show_default=True)
@click.option("--systems", nargs=2, default=("hybrid", "hybrid"), show_default=True, help="Which system of A and of B.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def compare(*, a: str, b: str, measure: str, systems: tuple[str, str], as_json: bool) -> None:
    """Test whether result B differs from result A, query by query."""
    values = []
    for file, system in zip((a, b), systems, strict=True):
        result = _read_result(file)
        try:
            values.append({query: float(each[system][measure]) for query, each in result["per_query"].items()})
        except KeyError as error:
            raise ConfigError(
                f"{file} holds no {error} for {system!r}; choose another --measure or --systems"
            ) from error
    if not values[0].keys() & values[1].keys():
        raise ConfigError(f"{a} and {b} share no query; give two results on the same questions")
    found = measures.compare(*values)
    if as_json:
        print(
            json.dumps(
                {
                    "measure": measure,
                    "difference": found.difference.as_dict(),
                    "p": found.p,
                    "wins": found.wins,
                    "losses": found.losses,
                    "ties": found.ties,
                }
            )
        )
        return
    d = found.difference
    print(f"{measure}: B - A = {d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}] over {d.n} queries, p = {found.p:.4f}")
    print(f"B is better on {found.wins}, worse on {found.losses}, equal on {found.ties}")
    for query in sorted(values[0].keys() & values[1].keys(), key=lambda q: values[1][q] - values[0][q])[:5]:
        if values[1][query] < values[0][query]:
            print(f"  worst: {query}  {values[0][query]:.3f} -> {values[1][query]:.3f}")


@cli.command()
@click.option("--questions", required=True, metavar="FILE", help="Question file.")
@click.option("--papers", multiple=True, required=True, metavar="SOURCE", help="What the questions are about.")
@click.option("--llm", metavar="URL", help="Endpoint that speaks OpenAI's protocol; default: extractive answers.")
@click.option("--model", metavar="NAME", help="Model of the endpoint.")
@click.option("--off-topic", metavar="FILE", help="JSON lines of {text}, from another field: all to be refused.")
@click.option("--cache", metavar="DIR", help="Keep what the endpoint says, so that the run can be repeated.")
@click.option("--floor", metavar="FILE", help="JSON of least and greatest values; exit 1 when one is missed.")
@click.option("--out", metavar="FILE", help="Keep the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def answers(
    *, questions: str, papers: tuple[str, ...], llm: str | None, model: str | None, off_topic: str | None,
    cache: str | None, floor: str | None, out: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Score answers: facts, citations, quotes, figures, refusals and cost, by kind."""
    from eval.answers import run

    if llm and not model:
        raise ConfigError(f"--llm {llm} names an endpoint but no model; add --model NAME")
    asked = data.read_questions(Path(questions))
    claims = data.read_texts(Path(off_topic)) if off_topic else []
    store = open_papers(papers, document_encoder(Config(), open_encoder(Config())))
    settings: dict[str, Any] = {"library": store.folder, "llm_model": model} | ({"llm_base_url": llm} if llm else {})
    config = Config(**settings)
    qrels = data.judge(asked, store.papers())
    stamp = {"library": store.digest(), "encoder": store.encoder, "config": config.digest, "commit": _commit()}
    about = {"what": "answers", "questions": data.digest(Path(questions)), "model": model}
    result = {**about, **stamp, **run(config, asked, qrels, Path(cache) if cache else None, claims)}
    _finish(result, out, as_json=as_json)
    if not as_json:
        _print_answers(result)
    if floor:
        _hold(result, Path(floor))


def _print_answers(result: dict[str, Any]) -> None:
    from eval.answers import ANSWERED

    print(f"\n{'':14}" + "".join(f"{name[:18]:>19}" for name in ANSWERED) + f"{'calls':>8}{'tokens':>8}")
    for group, row in result["tables"].items():
        cells = "".join(f"{row[name]['mean']:19.3f}" if row[name]["n"] else f"{'-':>19}" for name in ANSWERED)
        print(f"{group:14}{cells}{row['calls']:8.2f}{row['tokens']:8.0f}")
    found = result["abstention"]
    print(f"\nabstention: precision {found['precision']:.3f}, recall {found['recall']:.3f}, F1 {found['F1']:.3f}")
    for name in ("unanswerable refused", "off-topic refused", "answerable refused"):
        if name in found:
            print(f"{name}: {found[name]['mean']:.3f} [{found[name]['low']:.3f}, {found[name]['high']:.3f}]")


@cli.command()
@click.option("--questions", required=True, metavar="FILE", help="Question file with answerable and unanswerable ones.")
@click.option("--papers", multiple=True, required=True, metavar="SOURCE", help="What the questions are about.")
@click.option("--off-topic", metavar="FILE", help="JSON lines of {text}, from another field.")
@click.option("--out", metavar="FILE", default=str(abstain.MODEL), help="Where the fitted decision goes.")
def fit(*, questions: str, papers: tuple[str, ...], off_topic: str | None, out: str) -> None:
    """Fit the refusal to questions with and without an answer, and print its operating curve."""
    from eval.fit import examples
    from eval.fit import fit as fit_refusal

    encoder = open_encoder(Config())
    asked = data.read_questions(Path(questions))
    store = open_papers(papers, encoder)
    claims = data.read_texts(Path(off_topic))[:300] if off_topic else []
    found = examples(store, Index.open(store), encoder, asked, data.judge(asked, store.papers()), claims)
    result = fit_refusal(found)
    Path(out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("share refused, by cross-validation")
    print(f"{'threshold':>10}{'answerable':>12}{'unanswerable':>14}{'without':>10}{'off topic':>11}{'made':>8}")
    for row in result["curve"]:
        mark = "  <- used" if row["threshold"] == round(result["threshold"], 3) else ""
        print(
            f"{row['threshold']:10}{row['answerable']:12}{row['unanswerable']:14}{row['without']:10}{row['off_topic']:11}{row['made']:8}{mark}"
        )


@cli.command()
@click.argument("out")
@click.argument("results", nargs=-1, metavar="[RESULT.json]...")
def report(*, out: str, results: tuple[str, ...]) -> None:
    """Write one page of HTML, OUT, with tables and plots of these results; default: those of eval/results."""
    from eval.report import write_report

    n = write_report(Path(out), [Path(file) for file in results])
    print(f"wrote {out} from {n} files")


@cli.command()
@click.option("--questions", required=True, metavar="FILE", help="Question file.")
@click.option("--papers", multiple=True, required=True, metavar="SOURCE", help="What the questions are about.")
@click.option("--bench", "benches", multiple=True, metavar="DIR[:QRELS]", help="Collection in BEIR's layout.")
@click.option("--out", metavar="FILE", default=str(ROOT / "eval" / "results" / "study.json"), show_default=True)
def study(*, questions: str, papers: tuple[str, ...], benches: tuple[str, ...], out: str) -> None:
    """Change one part of retrieval after the other and measure; about an hour when nothing is encoded yet."""
    from eval.study import Lab
    from eval.study import study as run_study

    encoder = open_encoder(Config())
    asked = data.read_questions(Path(questions))
    store = open_papers(papers, encoder)
    labs = [Lab.of_questions("questions", encoder, asked, store.papers())]
    for bench in benches:
        folder, _, qrels = bench.partition(":")
        collection = data.read_collection(Path(folder), Path(folder) / qrels if qrels else None)
        labs.append(
            Lab.of_collection(Path(folder).name + (f" ({Path(qrels).stem})" if qrels else ""), encoder, collection)
        )
    result = run_study(labs, lambda text: print(text, file=sys.stderr, flush=True))
    stamp = {"library": store.digest(), "encoder": store.encoder, "commit": _commit()}
    _finish(result | stamp, out, as_json=False)
    for row in result["rows"]:
        cells = (f"{each['mean']:.4f} ({each['difference']['mean']:+.4f})" for each in row["collections"].values())
        print(f"{row['part']:12}{row['variant']:34}" + "  ".join(cells))


@cli.command()
@click.option(
    "--repeats", type=click.IntRange(1), metavar="N", help="How often each; default: 5 starts, 20 questions, 30 keys."
)
@click.option("--out", metavar="FILE", help="Keep the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def page(*, repeats: int | None, out: str | None, as_json: bool) -> None:
    """Measure how long people wait for the page, in a real browser on this machine."""
    from eval.page import measure

    result = measure(repeats, lambda text: print(f"eval: {text}", file=sys.stderr, flush=True))
    _finish(result | {"commit": _commit()}, out, as_json=as_json)
    if not as_json:
        print(f"\n{'milliseconds':24}{'n':>5}{'median':>9}{'p95':>9}{'bar':>7}")
        for name, row in result["figures"].items():
            met = "met" if row["met"] else "missed"
            print(f"{name:24}{row['n']:5}{row['median']:9.0f}{row['p95']:9.0f}{row['bar']:7}  {met}")
        print("\n{cpus} CPUs ({model}), load {load}, {browser}".format_map(result["machine"]))


@cli.command()
@click.option(
    "--records",
    "sizes",
    multiple=True,
    type=click.IntRange(10),
    help="Size of a dump; default: 10,000, 100,000, 1,000,000.",
)
@click.option("--out", metavar="FILE", help="Keep the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def dump(*, sizes: tuple[int, ...], out: str | None, as_json: bool) -> None:
    """Measure how quickly a made-up arXiv dump is stored, and in how much memory; nothing is encoded."""
    from eval.dump import measure

    sizes = sizes or (10_000, 100_000, 1_000_000)
    result = measure(sizes, lambda text: print(f"eval: {text}", file=sys.stderr, flush=True))
    _finish(result | {"commit": _commit()}, out, as_json=as_json)
    if not as_json:
        print(f"\n{'records':>10}{'MB':>8}{'seconds':>9}{'records/s':>11}{'peak MB':>9}{'library MB':>12}  totals")
        for row in result["dump"]:
            rate = row["records"] / row["seconds"]
            size, peak, library = (row[name] / 1e6 for name in ("bytes", "peak_bytes", "library_bytes"))
            figures = f"{size:8.0f}{row['seconds']:9.1f}{rate:11,.0f}{peak:9.0f}{library:12.0f}"
            print(f"{row['records']:10,}{figures}  {row['totals']}")


@cli.command()
@click.option("--trials", type=click.IntRange(0), default=200, show_default=True, help="Ingests that are killed.")
@click.option("--real", type=click.IntRange(0), default=10, show_default=True, help="More, with the real encoder.")
@click.option("--seed", default=1, show_default=True, help="Chooses the moments.")
@click.option("--damage", is_flag=True, help="Damage files instead, in every way we know of.")
@click.option("--out", metavar="FILE", help="Keep the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def durability(*, trials: int, real: int, seed: int, damage: bool, out: str | None, as_json: bool) -> None:
    """Kill ingests at any moment, or damage libraries, and count what the next start has lost; exit 1 if anything."""
    from eval.damage import COLUMNS, run_damage
    from eval.durability import run_trials

    def say(text: str) -> None:
        print(f"eval: {text}", file=sys.stderr, flush=True)

    result = run_damage(say) if damage else run_trials(trials, real, seed, say)
    _finish(result | {"commit": _commit()}, out, as_json=as_json)
    if not as_json:
        names = COLUMNS if damage else list(next(iter(result["rows"].values()), {}))
        width = max(map(len, result["rows"]), default=0) + 2
        print(f"\n{'':{width}}" + "".join(f"{name:>14}" for name in names))
        for kind, row in result["rows"].items():
            print(f"{kind:{width}}" + "".join(f"{row[name]!s:>14}" for name in names))
    if result["failed"]:
        print(f"eval: {len(result['failed'])} failed", file=sys.stderr)
        sys.exit(1)


@cli.command()
@click.option("--minutes", type=click.FloatRange(0), default=30.0, show_default=True, help="One round at least.")
@click.option("--out", metavar="FILE", help="Keep the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def soak(*, minutes: float, out: str | None, as_json: bool) -> None:
    """Encode in bf16 on OpenVINO while questions are asked, for long; exit 1 when anything strays or grows."""
    from eval.soak import soak as run_soak

    result = run_soak(minutes, lambda text: print(f"eval: {text}", file=sys.stderr, flush=True))
    _finish_watch(result, out, as_json=as_json)


@cli.command()
@click.option("--questions", type=click.IntRange(1, 1_000), default=200, show_default=True, help="Sent in one moment.")
@click.option("--delay", type=click.FloatRange(0), default=0.5, show_default=True, help="The endpoint's, in seconds.")
@click.option("--long", type=click.IntRange(0), default=0, help="So many more, eight at a time; is memory flat?")
@click.option("--out", metavar="FILE", help="Keep the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def load(*, questions: int, delay: float, long: int, out: str | None, as_json: bool) -> None:
    """Ask a running server many questions at once; exit 1 when one has no end, or the server is not well."""
    import asyncio

    from eval.load import load as run_load

    say = lambda text: print(f"eval: {text}", file=sys.stderr, flush=True)  # noqa: E731
    result = asyncio.run(run_load(questions, delay, long, say))
    _finish_watch(result, out, as_json=as_json)


@cli.command()
@click.option(
    "--papers", multiple=True, metavar="SOURCE", help="What is ingested; default: the tests' corpus, or the sample."
)
@click.option("--questions", metavar="FILE", default=str(ROOT / "eval" / "questions" / "dev.jsonl"), help="Searched.")
@click.option("--sizes", default="10k,100k,1M", show_default=True, help="Chunks of made-up libraries; '' for none.")
@click.option("--repeats", type=click.IntRange(1), default=4, show_default=True, metavar="N", help="Rounds.")
@click.option("--only", multiple=True, type=click.Choice(["ingest", "search", "help"]), help="Measure this part alone.")
@click.option("--alone", is_flag=True, help="Without LangChain + Chroma.")
@click.option("--check", metavar="FILE", help="JSON of bars, as eval/floors/bench.json; exit 1 when one is missed.")
@click.option("--plot", metavar="FILE", help="Draw cost against size as SVG.")
@click.option("--out", metavar="FILE", help="Keep the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def bench(
    *, papers: tuple[str, ...], questions: str, sizes: str, repeats: int, only: tuple[Any, ...], alone: bool,
    check: str | None, plot: str | None, out: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure start, ingest, search and memory beside LangChain + Chroma and beside the machine's own limits."""
    from eval.bench import report
    from eval.bench.run import Plan, default_papers, measure, read_sizes

    bars = report.read_bars(Path(check) if check else report.BARS)
    asked = tuple(each.question for each in data.read_questions(Path(questions)) if not each.history)
    parts = frozenset(only or ("ingest", "search", "help"))
    plan = Plan(papers or default_papers(), asked, read_sizes(sizes), repeats, parts, alone)
    result = measure(plan, lambda text: print(f"eval: {text}", file=sys.stderr, flush=True))
    rows = report.figures(result, bars)
    stamp = {"commit": _commit(), "config": Config().digest}
    _finish({"what": "bench", "figures": rows, **stamp, **result}, out, as_json=as_json)
    if plot:
        report.draw(result, Path(plot))
    if not as_json:
        print(report.tables(result, rows))
    if check and (lines := report.missed(rows)):
        print("\n".join(f"eval: {line}" for line in lines), file=sys.stderr)
        sys.exit(1)


def _read_result(file: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
        result["per_query"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"cannot read the result {file}: {error}; give a file written with --out") from error
    return result


def _hold(result: dict[str, Any], floor: Path) -> None:
    """Compare a result with recorded floors, `{"fact": {"fact recall": {"least": 0.8}}}`; exit 1 when one is missed."""
    missed = []
    for group, measures_ in json.loads(floor.read_text(encoding="utf-8")).items():
        for name, bounds in measures_.items():
            row = result["tables"][group] if "tables" in result else result["systems"][group]["hybrid"]
            value = row[name]["mean"]
            low, high = bounds.get("least", 0.0), bounds.get("most", 1.0)
            if not low <= value <= high:
                missed.append(f"{group}, {name}: {value:.4f} is not within {low} to {high}")
    for line in missed:
        print(f"eval: {line}", file=sys.stderr)
    if missed:
        sys.exit(1)


def _finish_watch(result: dict[str, Any], out: str | None, *, as_json: bool) -> None:
    """Keep and show what was seen over some time; exit 1 when something of it may not be."""
    _finish(result | {"commit": _commit()}, out, as_json=as_json)
    if not as_json:
        for name, value in result.items():
            print(f"{name:40} {value}")
    if result["failed"]:
        sys.exit(1)


def _finish(result: dict[str, Any], out: str | None, *, as_json: bool) -> None:
    if out:
        Path(out).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(result, ensure_ascii=False))


def _print_retrieval(result: dict[str, Any]) -> None:
    for group, systems in result["systems"].items():
        n = next(iter(systems.values()))[SHOWN[0]]["n"]
        print(f"\n{group} ({n} queries)")
        print(f"{'':10}" + "".join(f"{name:>26}" if name == SHOWN[0] else f"{name[:19]:>20}" for name in SHOWN))
        for system, row in systems.items():
            first = row[SHOWN[0]]
            cells = f"{first['mean']:12.4f} [{first['low']:.3f}, {first['high']:.3f}]"
            print(f"{system:10}{cells:>26}" + "".join(f"{row[name]['mean']:20.4f}" for name in SHOWN[1:]))


def _commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip() or None


def main() -> None:
    """Run, and tell a failure in one line."""
    try:
        cli.main(prog_name="python -m eval", standalone_mode=False)
    except click.ClickException as error:
        print(f"eval: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except AssistantError as error:
        print(f"eval: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
