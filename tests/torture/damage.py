"""Damaged and hostile data: it is refused with a name, or read rightly, and no code of it runs."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml

from hesrl.agents.ppo import Args
from hesrl.envs.ur5.protocol import PACKET, Frames, ProtocolError, pack, unpack
from hesrl.envs.ur5.urscript import parse
from hesrl.errors import UserError
from hesrl.experiments.sweeps.grid import load_grid
from hesrl.runs.checkpoint import FORMAT, load_checkpoint, rng_state, save_checkpoint
from hesrl.settings_from_yaml import settings_in_file
from tests.runs.test_checkpoint import write_signed
from tests.torture.faults import Fault


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return data with some bits flipped, some bytes written over, cut out or in, or cut short."""
    bad = bytearray(data)
    kind, place = rng.randrange(5), rng.randrange(len(data))
    if kind == 0:
        for _ in range(rng.choice((1, 1, 8))):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        bad[place : place + rng.randint(1, 64)] = rng.randbytes(rng.randint(1, 64))
    elif kind == 2:
        del bad[place : place + rng.randint(1, 64)]
    elif kind == 3:
        bad[place:place] = rng.randbytes(rng.randint(1, 64))
    else:
        del bad[place:]
    return bytes(bad)


class Attack:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def checkpoints(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Load damaged and forged checkpoints."""
    path, attacked = folder / "checkpoint.pt", folder / "attacked"
    state = {"weight": torch.arange(200.0), "rng": rng_state(), "names": ["a", "b"]}
    save_checkpoint(path, state)
    good = path.read_bytes()
    for _ in range(count):
        if rng.random() < 0.1:
            forged = {"format": FORMAT, "version": 1, "state": {"a": [Attack(attacked)]}}
            write_signed(path, forged)
        else:
            while (bad := damaged(rng, good)) == good:
                pass
            path.write_bytes(bad)
        try:
            load_checkpoint(path)
        except UserError as error:
            lines = str(error).count("\n")
            yield Fault("more than one line" if lines else "code ran" * attacked.exists())
        except Exception as error:
            yield Fault(f"{type(error).__name__}: {error}")
        else:
            yield Fault("damage was not noticed")


HOSTILE = (
    "!!python/object/apply:os.mkdir [{}]", "!!python/name:os.system", "&a [*a, *a]", "&a {{b: *a}}",
    "[" * 500, "{{? [] : 1}}", "1e400", "-.inf", ".nan", "0x7fffffffffffffffff", "2026-13-45",
    "!!binary zzz", "'\\0'", "\x00", "\ud800", "null", "no", "1_000", "0o17", "1:30", "''", "~",
)  # fmt: skip
"""Values, in which {} is a folder that no value may make."""


def yaml_files(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Read settings and grids with hostile values and damaged text."""
    attacked = folder / "attacked"
    settings = {"gamma": 0.9, "seed": 3, "env_id": "Hopper-v5", "hidden_sizes": [64, 64]}
    of_grid = {"env_id": "Hopper-v5", "gamma": 0.9, "optimizer": ["adam", "sgd"]}
    grid = {"agent": "ppo", "settings": of_grid, "test_seeds": [1, 2]}
    texts = {"settings": yaml.safe_dump(settings), "grid": yaml.safe_dump(grid)}
    for _ in range(count):
        kind = rng.choice(list(texts))
        path = folder / f"{kind}.yaml"
        if rng.random() < 0.5:
            data = damaged(rng, texts[kind].encode())
        else:
            lines = texts[kind].splitlines()
            line = rng.randrange(len(lines))
            value = rng.choice(HOSTILE).format(attacked)
            lines[line] = f"{lines[line].split(':')[0]}: {value}"
            data = "\n".join(lines).encode(errors="surrogatepass")
        path.write_bytes(data)
        try:
            if kind == "settings":
                Args(**settings_in_file(Args, path)).check()
            else:
                load_grid(path)
        except UserError as error:
            lost = f"more than one line: {error}" if "\n" in str(error) else ""
        except Exception as error:
            lost = f"{type(error).__name__}: {error} for {data!r}"
        else:
            lost = ""
        yield Fault("code ran" if attacked.exists() else lost)


def packets(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Read damaged packets of the arm, and damaged commands to it."""
    names = PACKET.names or ()
    numbers = {name: rng.uniform(-3, 3) for name in names[1:]} | {
        "robot_mode": 7, "safety_mode": 1
    }  # fmt: skip
    good = pack(**numbers)
    commands = (
        b"speedj([0.1, 0, 0, 0, 0, 0], 1.4, 0.08)",
        b"movej([0.1, 0, 0, 0, 0, 0], a=1.4, v=0.5, t=2)",
        b"stopj(3.0)",
    )
    for number in range(count):
        try:
            if number % 2:
                for packet in Frames().feed(damaged(rng, good + good)):
                    unpack(packet)
            else:
                parse(damaged(rng, rng.choice(commands)).decode(errors="replace"))
        except (ProtocolError, ValueError) as error:
            yield Fault("" if number % 2 == 0 or type(error) is ProtocolError else repr(error))
        except Exception as error:
            yield Fault(f"{type(error).__name__}: {error}")
        else:
            yield Fault()
