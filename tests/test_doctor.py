"""What ``hesrl doctor`` says of this machine, and of others."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

from hesrl import doctor
from hesrl.doctor import Args, main


@pytest.fixture
def found(monkeypatch, capsys):
    """Runs the doctor; returns exit status and findings by name."""
    monkeypatch.setattr(doctor, "COMPILE", "print(2.5)")

    def run():
        status = main(Args(json=True))
        return status, {f["name"]: f for f in json.loads(capsys.readouterr().out)}

    return run


def test_everything_is_named_with_how_to_get_it(found):
    status, findings = found()
    assert findings.keys() >= {
        "versions", "machine", "compiler", "cache", "rendering", "window", "GPU", "UR5",
        *doctor.EXTRAS,
    }  # fmt: skip
    assert f"torch {metadata.version('torch')}, " in findings["versions"]["detail"]
    for finding in findings.values():
        assert finding["state"] in ("ok", "missing", "broken") and finding["detail"]
        assert finding["remedy"] or finding["state"] == "ok"
    assert status == int("broken" in {f["state"] for f in findings.values()})


def test_lines_say_the_same(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "COMPILE", "print(2.5)")
    main(Args())
    out = capsys.readouterr().out
    assert "compiles a small function in 2.5 s" in out and out.startswith("ok       versions ")


def test_a_compiler_that_is_not_there_or_fails(found, monkeypatch):
    monkeypatch.setenv("CXX", "no-compiler")
    assert found()[1]["compiler"]["detail"] == "no no-compiler"
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(doctor, "COMPILE", "raise OSError('no space')")
    status, findings = found()
    assert status == 1 and findings["compiler"]["state"] == "broken"
    assert "fails: OSError: no space" in findings["compiler"]["detail"]


def test_a_cache_that_others_can_write_is_broken(found, monkeypatch, tmp_path):
    tmp_path.chmod(0o777)
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    status, findings = found()
    assert status == 1 and findings["cache"]["state"] == "broken"


def test_rendering_that_ends_the_process_is_missing(found, monkeypatch):
    monkeypatch.setattr(doctor, "DRAW", "import os; os.abort()")
    rendering = found()[1]["rendering"]
    assert rendering["state"] == "missing" and "ended with status -6" in rendering["detail"]


def test_the_compiler_of_this_machine_is_tried():
    done = subprocess.run([sys.executable, "-c", doctor.COMPILE], capture_output=True, text=True)
    assert (done.returncode == 0 and float(done.stdout) > 0) or "ompile" in done.stderr
