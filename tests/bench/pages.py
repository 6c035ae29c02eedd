"""The tables of the pages that quote what a benchmark wrote.

``python -m tests.bench.pages`` writes them into the pages, after

    hesrl bench update --rounds 9 --out docs/update.csv
    hesrl bench memory --out docs/memory.csv
    hesrl bench safety --out docs/safety.csv
    make torture
    hesrl bench agents --out docs/agents-speed.csv
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from hesrl.bench import safety, update
from hesrl.measuring.tables import markdown_table

ROOT = Path(__file__).parents[2]
EAGER = ("hesrl Adam", "AdaHesScale", "AdaHessian")
TASKS = {
    "ppo": "PPO's loss as CleanRL writes it, batch of 64",
    "ppo-fused": "the same by `hesrl.losses`",
    "all-cnn-c": "ALL-CNN-C, batch of 128",
}
REPLAYED_AND_COMPILED = ("replayed Adam", "replayed AdaHesScale", "compiled Adam")
COMPILED_TASKS = {
    "ppo-minibatch": "17-64-64-6 and 17-64-64-1, 64 samples",
    "wide": "64-512-512-100, 256 samples",
    "wide-1": "the same, 1 sample",
}


def read(name: str) -> list[dict[str, str]]:
    with (ROOT / "docs" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def eager_table() -> str:
    """Time and memory beside torch's Adam."""
    rows = []
    found = {(row["task"], row["optimizer"]): row for row in read("update.csv")}
    for task, words in TASKS.items():
        seconds = 1e-6 * float(found[task, update.BASELINE]["microseconds"])
        time = f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.2f} ms"
        ratios = (float(found[task, name]["ratio"]) for name in EAGER)
        rows.append([words, time, *(f"{ratio:.2f}" for ratio in ratios)])
    peaks = {row["optimizer"]: row for row in read("memory.csv")}
    ratios = (float(peaks[name]["ratio"]) for name in EAGER)
    peak = f"{float(peaks[update.BASELINE]['peak_mib']):,.0f} MiB"
    rows.append(["ALL-CNN-C, peak memory", peak, *(f"{ratio:.2f}" for ratio in ratios)])
    return markdown_table(["one update", update.BASELINE, *EAGER], rows)


def compiled_table() -> str:
    """Replayed and compiled steps beside torch's eager Adam."""
    rows = []
    found = {(row["task"], row["optimizer"]): row for row in read("update.csv")}
    names = (*REPLAYED_AND_COMPILED, update.COMPILED_CONTENDER)
    for task, words in COMPILED_TASKS.items():
        cells = [f"{float(found[task, update.BASELINE]['microseconds']):,.0f}"]
        for name in names:
            microseconds, ratio = (float(found[task, name][x]) for x in ("microseconds", "ratio"))
            cells.append(f"{microseconds:,.0f} ({ratio:.2f})")
        ratio = float(found[task, update.COMPILED_CONTENDER]["ratio_to_compiled"])
        rows.append([f"`{task}`: {words}", *cells, f"{ratio:.2f}"])
    header = ["task", update.BASELINE, *names, "AdaHesScale / Adam, both compiled"]
    return markdown_table(header, rows)


def unarmed_sentence() -> str:
    """How much longer an update takes while another model is armed."""
    rows = read("update.csv")
    longest = max(float(row["ratio"]) for row in rows if row["optimizer"] == update.BESIDE)
    return f"the update of another model takes up to {100 * (longest - 1):.0f} % longer"


def safety_table() -> str:
    """The largest ratios of the distances with AdaHesScale to those with Adam."""
    return safety.largest(safety.Row(**row) for row in read("safety.csv"))


def reliability_table() -> str:
    """How many faults were tried, survived and not."""
    rows = []
    for row in read("reliability.csv"):
        counts = (f"{int(row[name]):,}" for name in ("tried", "survived", "lost"))
        rows.append([row["faults"], row["survived_means"], *counts])
    return markdown_table(["fault", "survived means", "tried", "survived", "lost"], rows, 2)


def agents_table() -> str:
    """Speeds of the agents beside those of Stable-Baselines3."""
    rows = []
    for row in read("agents-speed.csv"):
        name = row["contender"].replace("SB3", "Stable-Baselines3")
        ours = row["ratio_to_first"] if name.startswith("hesrl") else ""
        rows.append([name, f"{int(row['steps_per_second']):,}", row["ratio"], ours])
    return markdown_table(
        ["implementation", "steps/s", "to Stable-Baselines3", "to hesrl's Adam"], rows
    )


TABLES = {
    "docs/agents.md": agents_table,
    "docs/your_model.md": eager_table,
    "docs/train_step.md": compiled_table,
    "docs/optimizers.md": safety_table,
    "docs/reliability.md": reliability_table,
}
"""What makes the table of each page; the page has a table with the same header."""


def written(page: str, table: str) -> str:
    """Return a page with its table of the same header replaced."""
    header = re.escape(table.split("\n")[0])
    text, count = re.subn(rf"^{header}\n(?:\|.*\n)+", lambda _: table, page, flags=re.MULTILINE)
    assert count == 1, f"{count} tables begin with {table.splitlines()[0]}"
    return text


def main() -> None:
    for name, make in TABLES.items():
        path = ROOT / name
        path.write_text(written(path.read_text(), make()))
    page = ROOT / "docs" / "curvature.md"
    sentence = re.sub(r"\d+", r"\\d+", unarmed_sentence())
    page.write_text(re.sub(sentence, unarmed_sentence(), page.read_text()))


if __name__ == "__main__":
    main()
