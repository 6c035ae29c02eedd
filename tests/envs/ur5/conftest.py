"""Emulators, and the environment at them."""

from __future__ import annotations

import pytest

from hesrl.envs.ur5 import senseact
from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.real import UR5ReacherReal
from tests.envs.ur5.emulated import STALE_AFTER, Served, emulate, reacher


@pytest.fixture
def emulator():
    """An emulator, which serves in a thread."""
    with emulate() as serving:
        yield serving


@pytest.fixture
def env(emulator):
    """The environment at the emulator, not reset yet."""
    made = reacher(emulator)
    yield made
    made.close()


@pytest.fixture(params=["driver", "rtde", pytest.param("senseact", marks=pytest.mark.senseact)])
def backend(request):
    """What talks to the controller; SenseAct only where it is installed."""
    if request.param == "senseact":
        pytest.importorskip("senseact.devices", reason=f"needs SenseAct: {senseact.INSTALL}")
    return request.param


@pytest.fixture
def serve():
    """Makes emulators that serve in processes of their own, and ends them with the test."""
    made = []
    yield lambda *args, **options: made.append(Served(*args, **options)) or made[-1]
    for serving in made:
        serving.close()


@pytest.fixture(params=["driver", "rtde"])
def own_thread(request):
    """What talks to an emulator in this process; SenseAct's process would keep its connections."""
    return request.param


@pytest.fixture(scope="module")
def served():
    """An emulator, which serves in a process."""
    serving = Served()
    yield serving
    serving.close()


@pytest.fixture
def controller(request, backend):
    """An emulator for either backend, with all that a port can be asked for."""
    serving = request.getfixturevalue("served" if backend == "senseact" else "emulator")
    serving.control("clear")
    serving.control("put_back")
    return serving


@pytest.fixture
def linked(controller, backend):
    """The environment at either backend's emulator, not reset yet."""
    made = reacher(controller, backend)
    yield made
    made.close()


@pytest.fixture
def patient(monkeypatch, emulator):
    """Makes the links of commands as patient with a busy machine as `reacher` does."""
    for link in (Driver, UR5ReacherReal):
        monkeypatch.setitem(link.__init__.__kwdefaults__, "stale_after", STALE_AFTER)
    monkeypatch.setitem(UR5ReacherReal.__init__.__kwdefaults__, "emulator_speed", emulator.speed)
    monkeypatch.setitem(Driver.__init__.__kwdefaults__, "t_min", 0.08)
    monkeypatch.setitem(Driver.__init__.__kwdefaults__, "clock_speed", emulator.speed)
