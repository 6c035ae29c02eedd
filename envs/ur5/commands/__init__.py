"""The commands ``hesrl ur5 check``, ``emulator``, ``home``, ``jog``, ``timing``, ``verify`` …."""
