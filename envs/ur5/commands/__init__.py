"""The commands ``hesrl ur5 check``, ``emulator``, ``jog`` and ``timing``."""
