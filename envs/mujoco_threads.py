"""N simulations of one MuJoCo model, stepped by MuJoCo's own threads.

It is MuJoCo's batch (``mujoco/mjbatch.h``, from 4.0 on), called in C, because `mujoco.batch` cannot
compute contact forces. One call, without the interpreter, steps all simulations. The numbers are
those of `mujoco.mj_step` to the bit, whatever the number of threads.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""What the future of a simulation depends on."""

_COMPONENTS = {
    "qpos": mujoco.mjtState.mjSTATE_QPOS,
    "qvel": mujoco.mjtState.mjSTATE_QVEL,
    "ctrl": mujoco.mjtState.mjSTATE_CTRL,
}
"""Parts of the state, by MuJoCo's names."""


class _Config(ctypes.Structure):
    """``mjBatchConfig``."""

    _fields_ = (("nthread", ctypes.c_int), ("persistent", ctypes.c_bool))


@cache
def library() -> Any:
    """Return MuJoCo's functions for batches, or None where MuJoCo is older than 4.0."""
    try:
        from mujoco import _batch
    except ImportError:
        return None
    functions = ctypes.CDLL(_batch.__file__)
    if not hasattr(functions, "mjb_makeBatch"):
        return None
    for name in ("mjb_makeBatch", "mjb_state", "mjb_stateComponent", "mjb_output"):
        getattr(functions, name).restype = ctypes.c_void_p
    functions.mjb_error.restype = ctypes.c_char_p
    return functions


class SimulationError(RuntimeError):
    """MuJoCo could not step a simulation.

    Args:
        number: Which one.
        message: What MuJoCo says.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Simulations:
    """N simulations of a copy of a model, each with all of its MuJoCo data.

    Args:
        model: The model.
        number: N.
        threads: Threads that step them, the caller's included.

    Arrays of it are memory of MuJoCo, which is freed with the instance.

    Attributes:
        state: `STATE` of each simulation, a row (N, …).
    """

    def __init__(self, model: mujoco.MjModel, number: int, threads: int) -> None:
        self._mujoco, self._number, self._model = library(), number, model
        message = ctypes.create_string_buffer(500)
        address = self._mujoco.mjb_makeBatch(
            ctypes.c_void_p(model._address),
            number,
            ctypes.byref(_Config(threads, True)),
            message,
            len(message),
        )
        if not address:
            raise RuntimeError(message.value.decode())
        self._batch = ctypes.c_void_p(address)
        weakref.finalize(self, self._mujoco.mjb_deleteBatch, self._batch)
        self._start = self._mujoco.mjb_state(self._batch)
        self.state = self._array(self._start, self._mujoco.mjb_nstate(self._batch))

    def _array(self, address: int, columns: int) -> NDArray[np.float64]:
        """Return memory of MuJoCo as an array (N, columns)."""
        pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_double))
        return np.ctypeslib.as_array(pointer, (self._number, columns))

    def field(self, name: str) -> NDArray[np.float64]:
        """Return a field of MuJoCo's data of all simulations (N, …), which follows every step.

        What is no part of the state is derived by a step and stays as it is in between.
        """
        size = ctypes.c_int()
        if name in _COMPONENTS:
            component = int(_COMPONENTS[name])
            address = self._mujoco.mjb_stateComponent(self._batch, component, ctypes.byref(size))
            first = (address - self._start) // self.state.itemsize
            return self.state[:, first : first + size.value]
        address = self._mujoco.mjb_output(self._batch, name.encode(), ctypes.byref(size), None)
        return self._array(address, size.value)

    def stepper(self, substeps: int) -> Callable[[], None]:
        """Return a function that steps all simulations.

        Args:
            substeps: Steps of MuJoCo.

        Returns:
            The function. It raises SimulationError where a simulation fails.
        """
        call = partial(self._mujoco.mjb_step, self._batch, None, 0, substeps, 0)

        def step() -> None:
            if call():
                raise self.failure()

        return step

    def functions(self) -> dict[str, int | None]:
        """Return the addresses of what a compiled step calls, by the names in `Envs`."""
        names = {
            "step": "mjb_step",
            "apply": "mjb_apply",
            "forward": "mjb_forward",
            "contact_forces": "mj_rnePostConstraint",  # ignores the arguments that it does not take
        }
        functions = {
            name: ctypes.cast(getattr(self._mujoco, of_mujoco), ctypes.c_void_p).value
            for name, of_mujoco in names.items()
        }
        return {**functions, "batch": self._batch.value}

    def failure(self) -> SimulationError:
        """Return what MuJoCo says of the simulation that failed."""
        messages = (self._mujoco.mjb_error(self._batch, i) for i in range(self._number))
        return next(SimulationError(i, text.decode()) for i, text in enumerate(messages) if text)

    def load(self, i: int, data: mujoco.MjData) -> None:
        """Put simulation ``i`` into the state of MuJoCo's data; the derived fields stay."""
        mujoco.mj_getState(self._model, data, self.state[i], STATE)

    def copy_to(self, i: int, data: mujoco.MjData) -> None:
        """Copy the state and all derived fields of simulation ``i`` into MuJoCo's data."""
        self._mujoco.mjb_getData(self._batch, i, ctypes.c_void_p(data._address))
