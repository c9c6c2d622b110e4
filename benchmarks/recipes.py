"""Train and evaluate rows from the classic GAN to the best recipe, to see which ingredient helps.

    export PYTHONPATH=.
    python benchmarks/recipes.py measure --dataset DIR --name gtzan --output RUNS --rows best
    python benchmarks/recipes.py table
    python benchmarks/recipes.py picture --runs RUN... --output PNG
    python benchmarks/recipes.py strips --runs before after --output PNG

`measure` trains each row for the same number of images, continues where an earlier call stopped,
evaluates its best checkpoint, and stores the figures in docs/recipes.csv and the curve by the
validation tracks in docs/recipes-curves.csv. `table` prints them in Markdown and draws
docs/recipes-curves.png. `picture` shows samples of several runs at their best side by side, and
`strips` 30 s of each genre one below the other, under the names of the runs' folders. Their sound
is that of `generate --seeds 0 --seconds 30 --format mp3`.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
from common import PROJECT, log_progress
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from musicspectrogan.data.grids import draw_grid
from musicspectrogan.evaluation.report import METRICS
from musicspectrogan.filesystem import write_text
from musicspectrogan.generation.pieces import piece
from musicspectrogan.generation.sampler import Sampler, seed_spec
from musicspectrogan.training.run_checkpoints import load_checkpoint

FIGURES = PROJECT / "docs" / "recipes.csv"
CURVES = PROJECT / "docs" / "recipes-curves.csv"
PICTURE = PROJECT / "docs" / "recipes-curves.png"

CLASSIC = "--gan cgan"
WINDOWS = f"{CLASSIC} --windows"
PROJECTION = "--gan stable_cgan --windows"
CALM = f"{PROJECTION} --beta1 0 --beta2 0.99"
R1 = f"{CALM} --r1 1"
RELATIVE = f"{R1} --loss relativistic"
BOTH = f"{RELATIVE} --r2 1"
FASTER = f"{BOTH} --lr 0.0005"
DEVIATION = f"{FASTER} --minibatch-deviation"
BEST = f"{DEVIATION} --augment auto"
ANY_LENGTH = f"{BEST} --gan anylength_cgan --latent-dim 64"

ROWS = {
    # Each row adds one ingredient to those above it.
    "classic": CLASSIC,
    "windows": WINDOWS,
    "projection": PROJECTION,
    "Adam 0, 0.99": CALM,
    "R1": R1,
    "relativistic": RELATIVE,
    "R2": BOTH,
    "lr 5e-4": FASTER,
    "minibatch deviation": DEVIATION,
    "best": BEST,
    # The same with a generator that is convolutional in time, as in the current recipes.
    "any length": ANY_LENGTH,
    "any length, pairs": f"{ANY_LENGTH} --pairs",
    # The best with one thing changed.
    "best, cut images": f"{BEST} --no-windows",
    "best, augment 0.6": f"{BEST} --augment 0.6",
    "best, r1 r2 0.2": f"{BEST} --r1 0.2 --r2 0.2",
    "best, r1 r2 5": f"{BEST} --r1 5 --r2 5",
    "best, lr 2e-4": f"{BEST} --lr 0.0002",
    "best, lr 1e-3": f"{BEST} --lr 0.001",
    "best, lr 1e-3, annealed": f"{BEST} --lr 0.001 --anneal-images {{images}}",
    "best, annealed": f"{BEST} --anneal-images {{images}}",
    "best, resized": f"{BEST} --upsampling resize",
    # Other approaches, and the classic with the learning rate of the recipe.
    "classic, lr 5e-4": f"{CLASSIC} --lr 0.0005",
    "hinge, spectral norm": f"{CALM} --loss hinge --spectral-norm",
    "hinge, spectral norm, augmented": f"{CALM} --loss hinge --spectral-norm --augment 0.3",
}
COLUMNS = (
    ("frechet", "classifier"),
    ("frechet", "untrained"),
    ("kernel", "classifier"),
    ("kernel", "untrained"),
    ("coverage", "classifier"),
    ("coverage", "untrained"),
    ("recall", "untrained"),
    ("genre_accuracy", ""),
    ("copied", ""),
)
# The validation tracks chose the best checkpoint, so it is evaluated by the test tracks. Older
# lines of the CSV are by both together (held-out).
SPLIT = "test"
TABLES = ["name", "width", "images"]


def measure(arguments: argparse.Namespace, row: str) -> None:
    """Train a row, evaluate it, and store the figures."""
    parts = (arguments.name, row, arguments.width, arguments.images, arguments.seed)
    run = arguments.output / "-".join(map(str, parts)).replace(" ", "_").replace(",", "")
    if not (run / "done").is_file():
        flags = ROWS[row].format(images=arguments.images).split()
        flags += f"--width {arguments.width} --seed {arguments.seed} --log-every 500".split()
        state = run / "checkpoints" / "latest.pt"
        again = ["--resume", state] if state.is_file() else ["--output", run]
        command(
            "run.py", *flags, "--dataset", arguments.dataset, "--images", arguments.images, *again
        )
        (run / "done").touch()
    checkpoint = run / "checkpoints" / "best.pt"
    best = load_checkpoint(checkpoint).images_seen
    names = ("name", "width", "images", "seed")
    key = {name: getattr(arguments, name) for name in names} | {"row": row}
    metrics = pd.read_csv(run / "metrics.csv").dropna(subset="kernel_distance")
    store(CURVES, key, metrics[["images_seen", "kernel_distance", "coverage"]])
    report = run / f"evaluation-{SPLIT}.json"
    flags = [
        "--dataset",
        arguments.dataset,
        "--split",
        SPLIT,
        "--samples",
        1000,
        "--output",
        report,
    ]
    command("-m", "musicspectrogan", "evaluate", "--checkpoint", checkpoint, *flags)
    store(FIGURES, key | {"split": SPLIT}, pd.DataFrame(figures_of(report)).assign(best=best))


def command(*arguments: object) -> None:
    """Run a command of the project."""
    log_progress(" ".join(map(str, arguments)))
    subprocess.run([sys.executable, *map(str, arguments)], cwd=PROJECT, check=True)


def figures_of(path: Path) -> list[dict[str, object]]:
    """Return the figures over all genres of an evaluation.json."""
    return [
        {
            "figure": line["name"],
            "features": line["features"],
            "value": line["value"]["value"],
            "half_width": line["value"]["half_width"],
            "real": line["real"]["value"] if line["real"] else math.nan,
            "ratio": line["ratio"]["value"] if line["ratio"] else math.nan,
            "ratio_half_width": line["ratio"]["half_width"] if line["ratio"] else math.nan,
        }
        for line in json.loads(path.read_text("utf-8"))["figures"]
        if line["genre"] is None
    ]


def store(path: Path, key: dict[str, object], lines: pd.DataFrame) -> None:
    """Add lines to a table, replacing those of the same run and split."""
    lines = pd.DataFrame([key]).merge(lines, how="cross")
    if path.is_file():
        before = pd.read_csv(path)
        same = (before[list(key)] == pd.Series(key)).all(axis=1)
        lines = pd.concat([before[~same], lines])
    write_text(path, lines.to_csv(index=False, float_format="%.5g"))


def table() -> None:
    """Print the tables, and draw the curves."""
    figures = pd.read_csv(FIGURES).fillna({"features": ""})
    for (name, width, images), rows in figures[figures.split == SPLIT].groupby(TABLES, sort=False):
        titles = [
            f"{METRICS[key].title}{', ratio' * METRICS[key].is_distance}{f', {of}' if of else ''}"
            for key, of in COLUMNS
        ]
        print(f"\n{name}, width {width}, {images:,} images, {SPLIT} tracks\n")
        print(f"| row | seed | best after | {' | '.join(titles)} |")
        print(f"|{'---|' * (len(COLUMNS) + 3)}")
        found = rows.set_index(["figure", "features"])
        for row in ROWS:
            for seed, of_seed in found[found.row == row].groupby("seed"):
                best = f"{of_seed.best.iloc[0]:,}"
                cells = [cell(of_seed.loc[key]) if key in of_seed.index else "" for key in COLUMNS]
                print(f"| {row} | {seed} | {best} | {' | '.join(cells)} |")
        real = [
            f"{found.loc[[key]].real.mean():.2f}" * (not METRICS[key[0]].is_distance)
            for key in COLUMNS
        ]
        print(f"| real music | | | {' | '.join(r or '1' for r in real)} |")
    draw(pd.read_csv(CURVES))


def cell(line: pd.Series) -> str:
    """Format a figure with its half-width; for a distance, the ratio to that of real music."""
    is_ratio = METRICS[line.name[0]].is_distance
    value, half_width = (
        (line.ratio, line.ratio_half_width) if is_ratio else (line.value, line.half_width)
    )
    digits = 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f}" + (
        f" ± {half_width:.{digits}f}" if math.isfinite(half_width) else ""
    )


def draw(curves: pd.DataFrame) -> None:
    """Draw the kernel distance by the validation tracks over images seen, one panel a dataset."""
    datasets = list(dict.fromkeys(curves["name"]))
    figure = Figure(figsize=(6 * len(datasets), 5), layout="constrained")
    for panel, dataset in zip(
        figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True
    ):
        of_dataset = curves[curves["name"] == dataset]
        panel.set_prop_cycle(color=colormaps["tab20"].colors)
        for (row, seed, *_), curve in of_dataset.groupby(
            ["row", "seed", "images", "width"], sort=False
        ):
            panel.plot(
                curve.images_seen, curve.kernel_distance, label=f"{row}, seed {seed}", linewidth=1
            )
        panel.set(title=dataset, xlabel="images seen", ylabel="kernel distance, validation tracks")
        panel.set(xscale="log", yscale="log")
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize=7)
    figure.savefig(PICTURE, dpi=90)


def picture(runs: list[Path], path: Path) -> None:
    """Draw five samples of each genre from each run's best checkpoint."""
    sheets = []
    for run in runs:
        sampler = Sampler(load_checkpoint(run / "checkpoints" / "best.pt"))
        latents = sampler.latents(list(range(5)))
        rows = [sampler.images(latents, sampler.one_hot(genre, 5)) for genre in sampler.genres]
        sheets.append(draw_grid(rows, sampler.genres))
    whole = Image.new(
        "L", (sum(sheet.width for sheet in sheets), max(sheet.height for sheet in sheets))
    )
    for number, sheet in enumerate(sheets):
        whole.paste(sheet, (sum(before.width for before in sheets[:number]), 0))
    whole.save(path)


def strips(runs: list[Path], path: Path) -> None:
    """Draw half a minute of each genre from each run's best checkpoint."""
    samplers = {run.name: Sampler(load_checkpoint(run / "checkpoints" / "best.pt")) for run in runs}
    settings = next(iter(samplers.values())).spectrogram
    seconds = settings.hop_length / settings.sample_rate
    drawn = {}
    for genre in next(iter(samplers.values())).genres:
        for name, sampler in samplers.items():
            ends = [sampler.mixture({genre: 1.0})] * 2
            strip = piece(
                sampler, seed_spec(0), *ends, round(30 / seconds), loops=False, truncation=1.0
            )
            drawn[f"{genre}, {name}"] = strip[None]
    draw_grid(list(drawn.values()), list(drawn), seconds_a_column=seconds).save(path)


def main() -> None:
    """Measure some rows, or show the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("measure", "table", "picture", "strips"))
    parser.add_argument("--dataset", type=Path, help="folder made by preprocess.py")
    parser.add_argument("--name", help="name of the dataset in the table")
    parser.add_argument("--output", type=Path, help="folder for the runs, or the picture")
    parser.add_argument("--runs", type=Path, nargs="+", help="trained on one dataset")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--images", type=int, default=200_000, help="length of each run")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.what == "table":
        return table()
    if arguments.what == "picture":
        return picture(arguments.runs, arguments.output)
    if arguments.what == "strips":
        return strips(arguments.runs, arguments.output)
    for row in arguments.rows:
        measure(arguments, row)


if __name__ == "__main__":
    main()
