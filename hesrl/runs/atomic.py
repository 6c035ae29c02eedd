"""Writing files so that a full disk, a crash or a kill never leaves half of one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from hesrl.errors import UserError


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace ``path`` by ``data``: afterwards the file holds all of it, or what it held before.

    The data goes to ``.<name>.tmp`` beside the target, reaches the disk, and is then renamed.
    The temporary name is fixed, so that a process killed in between leaves at most one such file
    and the next write reuses it; callers hold the run directory's lock, hence one writer at a time.

    Args:
        path: File to create or replace; its folder must exist.
        data: The complete content, in bytes.

    Raises:
        UserError: The folder is missing or not writable, or the disk is full.
    """
    temporary = _temporary(path)
    try:
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def require_writable(path: Path | None) -> None:
    """Refuse a file that `write_atomically` could not write later; None passes.

    Args:
        path: The file; its folder is made if missing.

    Raises:
        UserError: The file or its folder cannot be written.
    """
    if path is None:
        return
    try:
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        UserError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> UserError:
    """The message for a failed write: the file, the system's reason, and what to do."""
    return UserError(
        f"cannot write {path}: {error.strerror}; check the folder and the free space on its disk"
    )


def _sync_folder(folder: Path) -> None:
    # A rename survives a power failure only once the folder's own entry is on the disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class AppendFile:
    """A file that grows by whole chunks: a chunk that does not fit leaves no part of itself."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` for appending, creating it if needed.

        Args:
            path: The file; its folder must exist.

        Raises:
            UserError: The file cannot be opened for writing.
        """
        self.path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(self, data: bytes) -> None:
        """Hand ``data`` to the operating system, so that it outlives this process.

        Args:
            data: Bytes to add at the end.

        Raises:
            UserError: The disk is full or broken; the file is as it was before the call.
        """
        size = self._file.tell()
        remaining = memoryview(data)
        try:
            while remaining:
                remaining = remaining[self._file.write(remaining) :]
        except OSError as error:
            self._file.truncate(size)
            self._file.seek(size)
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()
