"""Softmax, log-softmax and logsumexp."""

from __future__ import annotations

from tests.curvature.rows.row import Row, normal

ROWS = [
    Row("softmax", "SoftmaxBackward0", lambda x: x.softmax(-1)),
    Row("softmax first dim", "SoftmaxBackward0", lambda x: x.softmax(0)),
    Row("log_softmax", "LogSoftmaxBackward0", lambda x: x.log_softmax(-1)),
    Row("log_softmax first dim", "LogSoftmaxBackward0", lambda x: x.log_softmax(0)),
    Row("logsumexp", "LogsumexpBackward0", lambda x: x.logsumexp(-1)),
    Row("logsumexp keepdim", "LogsumexpBackward0", lambda x: x.logsumexp(0, keepdim=True)),
    Row(
        "logsumexp dims",
        "LogsumexpBackward0",
        lambda x: x.logsumexp((-1, 0)),
        lambda: (normal(2, 3, 2),),
    ),
]
