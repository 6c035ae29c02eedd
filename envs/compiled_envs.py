"""`normalize.cpp` and `mujoco_tasks.cpp`, compiled by the machine's compiler and kept on disk."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_bool, c_double, c_float, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from hesrl.train_step.compilation import build, kept_library, stem_of

# Neither fused nor reordered, so that the numbers are NumPy's.
_OPTIONS = ("-O2", "-ffp-contract=off")

Doubles, Floats, Longs, Bools = (
    POINTER(c_double),
    POINTER(c_float),
    POINTER(c_long),
    POINTER(c_bool),
)


class Part(Structure):
    """Numbers of each simulation, in rows that lie ``stride`` numbers apart, and their bounds."""

    _fields_ = (
        ("numbers", Doubles), ("stride", c_long), ("size", c_long),
        ("low", c_double), ("high", c_double), ("is_open", c_bool),
    )  # fmt: skip


class Actor(Structure):
    """A compiled function from observations and noise to actions."""

    _fields_ = (
        ("act", c_void_p), ("arguments", POINTER(c_void_p)), ("memory", c_void_p),
        ("obs", c_long), ("noise", c_long), ("actions", c_long),
    )  # fmt: skip


class Envs(Structure):
    """What `hesrl_steps` works on: simulations, their task, statistics and counts."""

    _fields_ = (
        # Sizes
        ("n", c_long), ("act_dim", c_long), ("width", c_long), ("scaled", c_long),
        # Physics
        ("step", c_void_p), ("apply", c_void_p), ("forward", c_void_p), ("batch", c_void_p),
        ("contact_forces", c_void_p), ("substeps", c_long),
        ("ctrl", Doubles), ("ctrl_stride", c_long),
        # Actions
        ("low", Floats), ("high", Floats), ("clipped", Floats),
        # Observations
        ("observed", POINTER(Part)), ("observed_parts", c_long), ("has_progress", c_bool),
        ("raw", Doubles), ("mean", Doubles), ("var", Doubles), ("count", Doubles),
        ("obs_clip", c_float),
        # Rewards
        ("bounded", POINTER(Part)), ("bounded_parts", c_long), ("ends_unhealthy", c_bool),
        ("x", Doubles), ("x_stride", c_long), ("last_x", Doubles), ("dt", c_double),
        ("is_height", c_bool), ("mass", Doubles), ("bodies", c_long), ("total_mass", c_double),
        ("forward_weight", c_double), ("healthy_reward", c_double),
        ("control_weight", c_double), ("costs_of_ctrl", c_bool),
        ("forces", Doubles), ("number_of_forces", c_long), ("scratch", Doubles),
        ("least_force", c_double), ("most_force", c_double), ("contact_weight", c_double),
        ("least_cost", c_double), ("most_cost", c_double), ("rewards", Doubles),
        ("reward_statistics", Doubles), ("discounted", Doubles),
        ("gamma", c_double), ("reward_clip", c_double),
        # Episodes
        ("terminated", Bools), ("truncated", Bools), ("elapsed", Longs), ("time_limit", c_double),
        ("lengths", Longs), ("returns", Doubles), ("square_limit", c_double), ("status", c_long),
    )  # fmt: skip


@cache
def compiled_envs() -> Any:
    """Return the library, or None where there is no compiler, or no folder to keep it in."""
    folder = Path(__file__).parent
    structs = "\n".join(_in_c(struct) for struct in (Part, Actor, Envs))
    normalize, tasks = ((folder / f"{x}.cpp").read_text() for x in ("normalize", "mujoco_tasks"))
    code = "\n".join((normalize, structs, tasks))
    try:
        stem = stem_of("envs", code, _OPTIONS)
        library = kept_library(stem) or build(stem, code, _OPTIONS)
        functions = ctypes.CDLL(str(library))
    except (OSError, RuntimeError):
        return None
    functions.hesrl_normalize.argtypes = (
        c_void_p, c_long, c_long, c_long, c_void_p, c_void_p, c_double, c_float, c_void_p,
    )  # fmt: skip
    functions.hesrl_normalize.restype = None
    functions.hesrl_steps.argtypes = (c_void_p, c_void_p, c_long, *[c_void_p] * 4)
    functions.hesrl_steps.restype = c_long
    return functions


def _in_c(struct: type[Structure]) -> str:
    """Return the declaration of a structure in C++."""
    members = (f"    {_type_in_c(field[1])}{field[0]};" for field in struct._fields_)
    return "\n".join([f"struct {struct.__name__} {{", *members, "};"])


def _type_in_c(kind: Any) -> str:
    if kind is c_void_p:
        return "void *"
    if hasattr(kind, "contents"):
        return f"{_type_in_c(kind._type_)}*"
    if issubclass(kind, Structure):
        return f"{kind.__name__} "
    return f"{kind.__name__.removeprefix('c_')} "
