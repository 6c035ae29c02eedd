"""One TensorBoard event file, written in this thread.

TensorBoard's `RecordWriter` and its messages make the records, several scalars to a record.
`torch.utils.tensorboard.SummaryWriter` passes each scalar to a second thread: a row of ten scalars
costs about nine times as much, and a full disk ends that thread together with the scalars in its
queue.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams.metadata import (
    PLUGIN_DATA_VERSION,
    PLUGIN_NAME,
    SESSION_START_INFO_TAG,
)  # fmt: skip
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from hesrl.runs.atomic import AppendFile


class EventFile:
    """Scalars for TensorBoard; each process that writes to a run adds one file to it."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        """Start the next event file in ``folder``.

        Args:
            folder: Directory of the run.
            purge_step: TensorBoard forgets what earlier files hold from this step on.

        Raises:
            UserError: The file cannot be written.
        """
        # TensorBoard reads a run's files in the order of their names and replays restarts so.
        number = len(list(folder.glob("events.out.tfevents.*")))
        self._file = AppendFile(folder / f"events.out.tfevents.{number:04d}")
        self._buffer = io.BytesIO()
        self._records = RecordWriter(self._buffer)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._add(Event(wall_time=time.time(), step=purge_step, session_log=start))
        self.flush()

    def add(self, step: int, wall_time: float, values: Mapping[str, float]) -> None:
        """Buffer scalars for the next `flush`.

        Args:
            step: Environment step.
            wall_time: Seconds since 1970.
            values: Scalars by tag; TensorBoard stores them in single precision.
        """
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(Event(wall_time=wall_time, step=step, summary=Summary(value=scalars)))

    def add_hyperparameters(self, settings: Mapping[str, Any]) -> None:
        """Buffer what TensorBoard's page HPARAMS compares runs by.

        Args:
            settings: Settings by name; other values than numbers, booleans and text become text.
        """
        start = SessionStartInfo(start_time_secs=time.time())
        for name, value in settings.items():
            if isinstance(value, list | tuple):
                value = " ".join(map(str, value))
            kind = type(value)
            if kind is bool:
                start.hparams[name].bool_value = value
            elif kind in (int, float):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = str(value)
        content = HParamsPluginData(session_start_info=start, version=PLUGIN_DATA_VERSION)
        data = SummaryMetadata.PluginData(
            plugin_name=PLUGIN_NAME, content=content.SerializeToString()
        )
        value = Summary.Value(
            tag=SESSION_START_INFO_TAG, metadata=SummaryMetadata(plugin_data=data)
        )
        self._add(Event(wall_time=time.time(), summary=Summary(value=[value])))

    def flush(self) -> None:
        """Write what is buffered.

        Raises:
            UserError: The disk is full; the buffer and the file are as before.
        """
        self._file.append(self._buffer.getvalue())
        self._buffer.seek(0)
        self._buffer.truncate()

    def close(self) -> None:
        """Close the file without writing what is buffered."""
        self._file.close()

    def _add(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
