"""Figure 6: return against step size, see `hesrl.paper.sensitivity`."""

from hesrl.paper.rl_command import command
from hesrl.paper.sensitivity import STEP_SIZES

Args, main = command("fig6", STEP_SIZES, "Train with and without scaled steps, by many step sizes")
