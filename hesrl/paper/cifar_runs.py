"""The runs of Figures 4 and 9: their settings, and which step size each optimizer takes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hesrl.errors import UserError
from hesrl.measuring.cifar import write_small_archive
from hesrl.measuring.collect import Collected, collect
from hesrl.measuring.report import Report, write_report
from hesrl.optim import known
from hesrl.paper.cifar_training import PROBLEMS, Row, split, train_run
from hesrl.paper.verdicts import Array
from hesrl.runs.atomic import make_folder
from hesrl.settings import Scale, require_device, require_positive

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class CifarArgs:
    """Settings of the figures on CIFAR-100."""

    SCALES: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"learning_rates": (1e-4, 1e-2), "seeds": 1, "epochs": 2, "channels": 4},
        "small": {"networks": ("3c3d",), "seeds": 3, "epochs": 20},
    }

    scale: Scale = "paper"
    """smoke (seconds, images at random), small or paper; it stands for what is not given"""
    cifar100: Path | None = None
    """the official archive cifar-100-binary.tar.gz; for --scale smoke also none"""
    cifar100_unofficial: bool = False
    """whether the archive may have another checksum than the official one"""
    networks: tuple[str, ...] = tuple(PROBLEMS)
    """3c3d and all-cnn-c"""
    optimizers: tuple[str, ...] = (
        "sgd", "adam", "adahessian", "adaggnmc", "adabl89", "adahesscale", "adahesscalegn",
    )  # fmt: skip
    """optimizers by name"""
    learning_rates: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """step sizes"""
    seeds: int = 10
    """runs of each, with the seeds from 1"""
    epochs: int | None = None
    """passes over the training images; None: 200 (3c3d), 350 (all-cnn-c)"""
    batch_size: int | None = None
    """images in a step; None: 128 (3c3d), 256 (all-cnn-c)"""
    channels: int | None = None
    """channels of the first layer; None: 64 (3c3d), 96 (all-cnn-c)"""
    device: str = "cpu"
    """device of the networks, as PyTorch names it"""
    jobs: int = 1
    """runs at the same time"""
    store: Path | None = None
    """folder of the runs, which Figures 4 and 9 share; None: results/paper/cifar100-SCALE"""
    out: Path = Path("results/paper/fig4")
    """where figure, data and report go"""

    def check(self) -> None:
        """Refuse impossible settings.

        Raises:
            UserError: The message names the setting.
        """
        require_positive(self, "learning_rates seeds epochs batch_size channels jobs")
        require_device(self.device)
        for name, choices in (("networks", tuple(PROBLEMS)), ("optimizers", known())):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values) or not set(values) <= set(choices):
                raise UserError(f"--{name}: give different ones of {', '.join(choices)}")
        if self.cifar100 is None and self.scale != "smoke":
            raise UserError(
                "--cifar100: give cifar-100-binary.tar.gz, from www.cs.toronto.edu/~kriz/cifar.html"
            )


def run_all(args: CifarArgs) -> Collected[Row]:
    """Make the runs that are missing, seed by seed, and return the rows of all.

    Raises:
        UserError: A setting is impossible, or the archive or the folder cannot be used.
    """
    args.check()
    store = args.store or Path("results/paper") / f"cifar100-{args.scale}"
    archive, official = args.cifar100, not args.cifar100_unofficial
    if archive is None:
        archive, official = store / "small.tar.gz", False
        make_folder(store)
        write_small_archive(archive, train=80, test=40)
    split(archive, official, 1, "cpu")
    runs = [
        f"{network}_{optimizer}_{rate!r}_{seed}"
        for seed in range(1, args.seeds + 1)
        for network in args.networks
        for optimizer in args.optimizers
        for rate in args.learning_rates
    ]
    settings = asdict(args)
    identity = {name: settings[name] for name in ("epochs", "batch_size", "channels", "device")}
    identity["cifar100"] = "official" if official else archive.name
    measure = partial(_measure, args, archive, official)
    return collect(measure, runs, Row, store, identity, args.jobs)


def _measure(args: CifarArgs, archive: Path, official: bool, run: str) -> list[Row]:
    network, optimizer, rate, seed = run.rsplit("_", 3)
    problem, data = PROBLEMS[network], split(archive, official, int(seed), args.device)
    return train_run(
        network, optimizer, float(rate), int(seed), data,
        epochs=args.epochs or problem.epochs,
        batch_size=args.batch_size or problem.batch_size,
        channels=args.channels or problem.channels,
    )  # fmt: skip


def make_page(
    args: CifarArgs, report: Callable[[Runs], Report], plot: Callable[[Runs], Figure]
) -> int:
    """Make the runs that are missing and write the page of a figure; return the exit status.

    Args:
        args: The settings.
        report: What the page says of the runs.
        plot: Draws them.

    Raises:
        UserError: A setting is impossible, or the archive or a folder cannot be used.
    """
    collected = run_all(args)
    runs = Runs(collected.rows)
    make_folder(args.out)
    write_report(report(runs), args, collected, plot(runs))
    return 0


def describe(args: CifarArgs) -> str:
    """Return data and training in some sentences."""
    source = "CIFAR-100" if args.cifar100 is not None else "Images at random"
    return (
        f"{source}; {args.seeds} seed(s), each with validation images of its own, a fifth of the "
        "training images, and with the same initialization for all optimizers. Networks with ELU "
        "in place of ReLU, batches, epochs and (decoupled) weight decay as in DeepOBS; images are "
        "moved, mirrored and changed in colour as in the authors' code; β and ε of all optimizers "
        "are 0.9, 0.999 and 1e-8. The authors train SGD longer, for as many seconds as the slowest "
        "optimizer takes; here its curve ends earlier."
    )


class Runs:
    """The rows by network, optimizer and step size.

    Args:
        rows: What `run_all` has collected.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._runs: dict[tuple[str, str, float], dict[int, list[Row]]]
        self._runs = defaultdict(lambda: defaultdict(list))
        for row in rows:
            self._runs[row.network, row.optimizer, row.learning_rate][row.seed].append(row)
        self.networks = list(dict.fromkeys(network for network, _, _ in self._runs))
        self.optimizers = list(dict.fromkeys(optimizer for _, optimizer, _ in self._runs))

    def rates(self, network: str, optimizer: str) -> list[float]:
        """Return the step sizes, in ascending order."""
        return sorted(r for n, o, r in self._runs if (n, o) == (network, optimizer))

    def diverged(self, network: str, optimizer: str, rate: float) -> int:
        """Return how many seeds have diverged."""
        runs = self._runs[network, optimizer, rate].values()
        return sum(math.isnan(rows[-1].train_loss) for rows in runs)

    def at_end(self, network: str, optimizer: str, rate: float, column: str) -> Array:
        """Return a column's last value of each seed; a run that has diverged knows nothing: 0."""
        runs = self._runs[network, optimizer, rate].values()
        return np.nan_to_num(np.array([getattr(rows[-1], column) for rows in runs]))

    def curves(self, network: str, optimizer: str, rate: float, column: str) -> Array:
        """Return a column over the epochs of the seeds (N, epochs), of which none has diverged."""
        runs = self._runs[network, optimizer, rate].values()
        return np.array([[getattr(row, column) for row in rows] for rows in runs])

    def best_rate(self, network: str, optimizer: str) -> float | None:
        """Return the step size with the best validation accuracy at the end, on average.

        Step sizes with a seed that diverged are left out; None if all have.
        """
        means = {
            rate: self.at_end(network, optimizer, rate, "valid_accuracy").mean()
            for rate in self.rates(network, optimizer)
            if not self.diverged(network, optimizer, rate)
        }
        return max(means, key=means.__getitem__) if means else None
