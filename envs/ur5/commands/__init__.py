"""The commands ``hesrl ur5 emulator``, ``check`` and ``jog``."""
