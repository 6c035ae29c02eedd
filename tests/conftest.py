"""What all tests share.

Markers (declared in setup.cfg; an unknown one is an error):

- ``gpu``: needs a CUDA device; skipped without one.
- ``senseact``: needs the SenseAct package; skipped without it.
- ``cluster``: starts or joins a Ray cluster.
- ``robot``: moves a real UR5 arm; runs only when asked for with ``-m robot``.
"""

import torch

# One thread adds up in one order, so a result is the same on every run, bit for bit.
torch.set_num_threads(1)
