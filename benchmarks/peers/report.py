"""The tables of docs/peers.md and the chart beside it, from the stored runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from modelport.bench.results import Spread, spread

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "peers.md"
CHART = ROOT / "docs" / "peers.svg"
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
OURS = "modelport"  # what the names of all our own begin with
COMPARED = ("modelport, binary", "modelport, binary, an instance per core")
NOTHING = "Not measured yet: `make bench-peers`."
Row = dict[str, Any]


def settings() -> str:
    """What is set in each peer, and where that is recommended."""
    from peers import PEERS

    table = [["server", "what is set", "why"]]
    for peer in PEERS.values():
        table += [[peer.TITLE, what, why] for what, why in peer.SETTINGS.items()]
    return _markdown(table, "---")


def section(results: Path = RESULTS) -> str:
    """What stands between the marks of the page."""
    if not results.exists():
        return NOTHING
    stored = json.loads(results.read_text(encoding="utf-8"))
    rows, machine = stored["rows"], stored["machine"]
    parts = [
        f"Measured {stored['time'][:10]} on {machine['cores']} cores of {machine['cpu']}, "
        f"commit `{stored['commit'][:12]}`, with `{' '.join(stored['command'])}`: "
        f"{stored['settings']['rounds']} rounds, runs of {stored['settings']['seconds']} s. "
        "Medians of the rounds; † marks a range over 25 % of the median.",
        "![Requests per second of each server](peers.svg)",
        "The chart shows the best row of each server at the largest number of clients.",
        *(model_part(model, [row for row in rows if row["model"] == model]) for model in _unique(rows, "model")),
        "Versions: " + "; ".join(_versions(peer, found) for peer, found in stored["peers"].items()) + ".",
    ]
    return "\n\n".join(parts)


def model_part(model: str, rows: Sequence[Row]) -> str:
    """The tables of one model."""
    runs = [row for row in rows if "clients" in row and "tried" not in row]
    counts = sorted({row["clients"] for row in runs})
    head = ["server", *(f"{count} client{'s' * (count > 1)}: /s, p50" for count in counts), "processor per request"]
    table = [head]
    for server in ranked(runs, counts[-1]):
        cells = [_cell(runs, server, count) for count in counts]
        table.append([f"**{server}**" if server in COMPARED else server, *cells, _processor(runs, server, counts[-1])])
    failed = [f"{row['server']} failed in round {row['round'] + 1}." for row in rows if "failed" in row]
    ratios = [against_best(runs, counts, ours) for ours in COMPARED]
    lines = [f"### {model}", _markdown(table), *ratios, *failed, _limit(rows)]
    return "\n\n".join(line for line in lines if line)


def against_best(runs: Sequence[Row], counts: Sequence[int], name: str) -> str:
    """The rate of one of ours over the best peer's, round by round; ours are no peers."""
    words = []
    for count in counts:
        peers = [server for server in ranked(runs, count) if not server.startswith(OURS)]
        ours = rates(runs, name, count)
        if not peers or not ours:
            continue
        theirs = rates(runs, peers[0], count)
        ratio = spread(ours[number] / theirs[number] for number in ours.keys() & theirs.keys())
        reach = f"{ratio.low:.2f} to {ratio.high:.2f}; {peers[0]}"
        words.append(f"{count} client{'s' * (count > 1)} **{ratio.median:.2f}** ({reach})")
    return f"{name}, over the best peer: {', '.join(words)}." if words else ""


def rates(runs: Iterable[Row], server: str, clients: int, key: str = "requests_per_s") -> dict[int, float]:
    """Round -> figure of one server at a number of clients."""
    return {row["round"]: row[key] for row in runs if row["server"] == server and row["clients"] == clients}


def ranked(runs: Sequence[Row], clients: int) -> list[str]:
    """The servers, the one with the best median first."""
    middle = {server: _spread(runs, server, clients) for server in _unique(runs, "server")}
    known = {server: found.median for server, found in middle.items() if found}
    return sorted(known, key=lambda server: -known[server])


def page(text: str, results: Path = RESULTS) -> str:
    """The page with its two generated parts as they must be."""
    for name, content in (("settings", settings()), ("results", section(results))):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}"
    return text


def write_page() -> Path:
    """Put the tables into the page, and draw the chart where there are results."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    if RESULTS.exists():
        CHART.write_text(chart(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]), encoding="utf-8")
    return PAGE


def chart(rows: Sequence[Row]) -> str:
    """Bars for each model, at the largest number of clients, as SVG: of each server the set-up that answers most."""
    from peers import chart as drawing  # matplotlib is in the extra `bench`

    bars = {}
    for model in _unique(rows, "model"):
        runs = [row for row in rows if row["model"] == model and "clients" in row and "tried" not in row]
        count = max(row["clients"] for row in runs)
        best: dict[str, Spread] = {}
        for server in ranked(runs, count):  # the best one first
            if found := _spread(runs, server, count):
                best.setdefault(server.partition(",")[0], found)
        bars[f"{model}, {count} clients, requests/s"] = best
    return drawing.draw(bars, OURS)


def _spread(runs: Sequence[Row], server: str, clients: int, key: str = "requests_per_s") -> Spread | None:
    found = rates(runs, server, clients, key)
    return spread(found.values()) if found else None


def _cell(runs: Sequence[Row], server: str, clients: int) -> str:
    rate, latency = (_spread(runs, server, clients, key) for key in ("requests_per_s", "p50_ms"))
    if rate is None or latency is None:
        return "–"
    return f"{rate.median:,.0f}{' †' * rate.unstable}, {latency.median:.3g} ms"


def _processor(runs: Sequence[Row], server: str, clients: int) -> str:
    found = _spread(runs, server, clients, "cpu_us")
    return f"{found.median:,.0f} µs" if found else "–"


def _limit(rows: Sequence[Row]) -> str:
    found: dict[tuple[str, int], dict[int, list[float]]] = {}
    for row in rows:
        if "library" in row:
            by_batch = found.setdefault((row["library"], row["threads"]), {})
            by_batch.setdefault(row["batch"], []).append(row["rows_per_s"])
    if not found:
        return ""
    batches = sorted({batch for by_batch in found.values() for batch in by_batch})
    table = [["in process, rows per second", *(f"batch {batch}" for batch in batches)]]
    for (library, threads), by_batch in sorted(found.items()):
        name = f"{library}, {threads} thread{'s' * (threads > 1)}"
        table.append([name, *(f"{spread(by_batch[batch]).median:,.0f}" for batch in batches)])
    return _markdown(table)


def _markdown(table: Sequence[Sequence[str]], right: str = "---:") -> str:
    head, *body = (f"| {' | '.join(cells)} |" for cells in table)
    return "\n".join([head, "|---" + f"|{right}" * (len(table[0]) - 1) + "|", *body])


def _versions(peer: str, found: dict[str, str]) -> str:
    return f"{peer} with " + ", ".join(f"{name} {version}" for name, version in found.items())


def _unique(rows: Iterable[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))
