"""Steps that a C++ compiler has compiled, and the folder that keeps them."""

import ctypes
import os

import pytest
import torch

from hesrl.envs.compiled_envs import compiled_envs
from hesrl.train_step.compilation import (
    build,
    cache_folder,
    compile_seconds,
    kept_library,
    stem_of,
)
from tests.compiler import COMPILER
from tests.train_step.steps import (
    Independent,
    Separate,
    Shared,
    VarianceNetwork,
    assert_equal_state,
    make,
    take,
)


@COMPILER
@pytest.mark.parametrize(
    ("network", "name", "dtype", "tolerance"),
    [
        (Independent, "adahesscale", torch.float32, {"rtol": 1e-4, "atol": 1e-6}),
        (Separate, "adam", torch.float64, {"rtol": 1e-10, "atol": 1e-12}),
        (Shared, "scaled-adahesscale", torch.float64, {"rtol": 1e-10, "atol": 1e-12}),
        (VarianceNetwork, "adahessian", torch.float64, {"rtol": 1e-10, "atol": 1e-12}),
    ],
)
def test_a_compiled_step_is_the_eager_one(
    tmp_path, monkeypatch, capsys, network, name, dtype, tolerance
):
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path / "cache"))
    ends, settings = [], {"delta": 1e-3} if name.startswith("scaled") else {}
    # The second compiled one finds what the first has left, and needs no compiler.
    for how in ("on", "off", "on"):
        step, optimizer, _, batch = make(
            network, name, dtype, compile=how, max_grad_norm=0.1, **settings
        )
        torch.manual_seed(1)
        ends.append((optimizer, take(step, batch, 3)))
        assert step.is_compiled == (how == "on")
        monkeypatch.setenv("CXX", "no-compiler")
    (compiled, metrics), (eager, expected), (found, _) = ends
    torch.testing.assert_close(metrics, expected, **tolerance)
    assert_equal_state(compiled, eager, **tolerance)
    assert_equal_state(compiled, found, rtol=0, atol=0)
    assert capsys.readouterr().err == "compiling the training step (once, about 2 s)\n"
    assert 0 < compile_seconds() == float((tmp_path / "cache" / "seconds").read_text())
    assert [path.suffix for path in (tmp_path / "cache").iterdir()].count(".so") == 1


def test_a_cache_that_others_can_write_is_refused(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    with pytest.raises(PermissionError, match="writable by you alone"):
        cache_folder()


DAMAGES = {
    "cut off": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "longer": lambda whole: whole + b"\0",
    "flipped": lambda whole: whole[:600] + bytes([whole[600] ^ 1]) + whole[601:],
}
ANSWER = 'extern "C" int answer() { return 42; }'


def damage(library, how):
    """Damage a file that is loaded: this process keeps what it had, so that it can go on."""
    content = DAMAGES[how](library.read_bytes())
    library.unlink()
    library.write_bytes(content)


@COMPILER
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_library_is_removed_and_built_anew(tmp_path, monkeypatch, capsys, how):
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    stem = stem_of("answer", ANSWER, ())
    library = build(stem, ANSWER, ())
    assert kept_library(stem) == library
    assert capsys.readouterr().err == ""
    damage(library, how)
    assert kept_library(stem) is None
    assert capsys.readouterr().err == f"{library} is damaged: it is compiled anew\n"
    assert not library.exists()
    assert kept_library(stem) is None  # and without another word
    assert capsys.readouterr().err == ""
    assert ctypes.CDLL(str(build(stem, ANSWER, ()))).answer() == 42


@COMPILER
def test_a_library_without_a_digest_is_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    stem = stem_of("answer", ANSWER, ())
    build(stem, ANSWER, ()).rename(tmp_path / f"{stem}.so")
    assert kept_library(stem) is None


@COMPILER
def test_a_build_that_ends_before_the_library_has_its_name_leaves_none(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    stem = stem_of("answer", ANSWER, ())
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(os, "replace", killed)
        build(stem, ANSWER, ())
    assert kept_library(stem) is None


@COMPILER
def test_a_step_and_the_normalization_go_on_after_their_libraries_were_damaged(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    ends = []
    for _ in range(2):
        compiled_envs.cache_clear()
        assert compiled_envs() is not None
        step, optimizer, _, batch = make(Separate, "adam", torch.float64, compile="on")
        take(step, batch, 2)
        ends.append(optimizer)
        libraries = list(tmp_path.glob("*.so"))
        assert len(libraries) == 2
        for library in libraries:
            damage(library, "cut off")
    compiled_envs.cache_clear()
    assert_equal_state(*ends, rtol=0, atol=0)
    assert capsys.readouterr().err.count(" is damaged: it is compiled anew\n") == 2


@COMPILER
def test_a_compiled_step_finds_parameters_whose_memory_has_changed():
    """As averages of weights are swapped in, by ``p.data = …``."""
    ends = []
    for how in ("on", "off"):
        step, optimizer, net, batch = make(compile=how)
        take(step, batch, 3)
        for param in net.parameters():
            param.data = 0.5 * param.data
        take(step, batch, 2, seed=1)
        ends.append(optimizer)
        assert step.is_compiled == (how == "on")
    assert_equal_state(*ends, rtol=1e-9, atol=1e-10)
