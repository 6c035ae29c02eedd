"""Figure 5: learning curves of A2C and PPO, see `hesrl.paper.learning_curves`."""

from hesrl.paper.learning_curves import CURVES
from hesrl.paper.rl_command import command

Args, main = command("fig5", CURVES, "Train A2C and PPO by several optimizers and step sizes")
