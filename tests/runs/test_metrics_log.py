"""metrics.csv and the TensorBoard events, read back by TensorBoard's own reader."""

from __future__ import annotations

import csv
import math
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from hesrl.errors import UserError
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import MetricsLog, read_metric

LOG_AND_DIE = """
import os, signal, sys
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import MetricsLog
log = MetricsLog(RunDirectory.open(sys.argv[1]))
log.log(1, {"a": 1.0})
log.flush()
log.log(2, {"a": 2.0})
os.kill(os.getpid(), signal.SIGKILL)
"""


def events(run: RunDirectory, key: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(run.path)).Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(key)]


def rows(run: RunDirectory, key: str) -> list[tuple[int, float]]:
    return list(zip(*(found.tolist() for found in read_metric(run, key)), strict=True))


def test_values_reach_both_files(run):
    started = time.time()
    with MetricsLog(run) as log:
        log.log(10, {"losses/value_loss": 0.5, "charts/SPS": 4000})
        log.log(20, {"losses/value_loss": 0.25})
    with run.metrics_csv.open() as file:
        (step, wall_time, key, value), *_ = list(csv.reader(file))[1:]
    assert (step, key, value) == ("10", "losses/value_loss", "0.5")
    assert started <= float(wall_time) <= time.time()
    for read in (rows, events):
        assert read(run, "losses/value_loss") == [(10, 0.5), (20, 0.25)]
        assert read(run, "charts/SPS") == [(10, 4000.0)]


def test_settings_are_hyperparameters_in_tensorboard(make_run):
    settings = {"learning_rate": 1e-3, "hidden": (64, 64), "note": None, "annealed": True}
    run = make_run(config={**settings, "seed": 3, "runs_dir": "private"})
    MetricsLog(run).close()
    MetricsLog(run, resume_step=0).close()
    events = EventAccumulator(str(run.path)).Reload()
    content = HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    )
    found = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in content.session_start_info.hparams.items()
    }
    assert found == {**settings, "hidden": "64 64", "note": "None", "seed": 3}


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e300, -5e-324, math.inf, -math.inf, math.nan])
def test_csv_keeps_full_precision(run, value):
    with MetricsLog(run) as log:
        log.log(1, {"a": value})
    ((_, found),) = rows(run, "a")
    assert found == pytest.approx(value, rel=0, abs=0, nan_ok=True)


def test_an_interrupted_and_resumed_run_has_no_duplicates(run):
    with MetricsLog(run) as log:
        for step in range(1, 9):
            log.log(step, {"a": float(step)})
    with MetricsLog(run, resume_step=5) as log:
        for step in range(6, 11):
            log.log(step, {"a": step + 0.5})
    expected = [(s, float(s) if s <= 5 else s + 0.5) for s in range(1, 11)]
    assert rows(run, "a") == events(run, "a") == expected


def test_flushed_rows_outlive_a_kill(run, start):
    run.close()
    with start(LOG_AND_DIE, run.path) as process:
        assert process.wait(timeout=300) == -9
    assert rows(run, "a") == events(run, "a") == [(1, 1.0)]


def test_a_row_cut_short_is_dropped(run):
    MetricsLog(run).close()
    with pytest.raises(UserError, match=r"metrics\.csv exists: resume"):
        MetricsLog(run)
    with run.metrics_csv.open("a") as file:
        file.write("1,5.0,a,1.5\n2,6.0,a,2")
    assert rows(run, "a") == [(1, 1.5)]
    MetricsLog(run, resume_step=2).close()
    assert run.metrics_csv.read_text().endswith("1,5.0,a,1.5\n")


def test_a_full_disk_is_named_and_loses_nothing_written(run, full_disk):
    log = MetricsLog(run)
    log.log(1, {"a": 1.0})
    log.flush()
    full_disk(100_000)
    for step in range(2, 5000):
        log.log(step, {"a": 1.0})
    with pytest.raises(UserError, match=r"cannot write .*metrics\.csv: File too large"):
        log.flush()
    assert rows(run, "a") == [(1, 1.0)]
    full_disk(10_000_000)
    log.close()
    assert rows(run, "a") == [(step, 1.0) for step in range(1, 5000)]
    assert events(run, "a")[-1] == (4999, 1.0)


def test_close_on_a_full_disk_reports_it_and_closes(run, full_disk):
    full_disk(100_000)
    with pytest.raises(UserError, match="cannot write"), MetricsLog(run) as log:
        log.log(1, {"k" * 200_000: 1.0})
    with pytest.raises(ValueError, match="closed file"):
        log.flush()


def test_rows_are_flushed_after_a_while(run, monkeypatch):
    now = time.time()
    with MetricsLog(run) as log:
        log.log(1, {"a": 1.0})
        assert rows(run, "a") == []
        monkeypatch.setattr("hesrl.runs.metrics.time.time", lambda: now + 60)
        log.log(2, {"a": 1.0})
        assert rows(run, "a") == [(1, 1.0), (2, 1.0)]


@pytest.mark.parametrize("key", ["a,b", 'a"b', "a\nb"])
def test_keys_that_would_break_the_table_are_refused(run, key):
    with MetricsLog(run) as log, pytest.raises(ValueError, match="metric key"):
        log.log(1, {key: 1.0})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "not written by hesrl"),
        (b"step,loss\n1,2\n", "not written by hesrl"),
        (b"global_step,wall_time,key,value\n1,2.0,a,b\n", "not written by hesrl"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_a_foreign_table_is_refused(run, content, message):
    if content is not None:
        run.metrics_csv.write_bytes(content)
    with pytest.raises(UserError, match=message):
        MetricsLog(run, resume_step=1)
    assert (run.metrics_csv.read_bytes() if run.metrics_csv.exists() else None) == content
