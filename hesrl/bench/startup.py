"""Seconds from the start of a process to an agent's first environment step, and its memory.

``python -m hesrl.bench.startup ppo HalfCheetah-v5 on 1`` runs in a process of its own and prints
the clock's time at its first step, and the peak of its resident memory in MiB.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hesrl.bench.agent_parts import timed_calls
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.runs.machine import peak_memory


def measure_startup(
    agent: str, env_id: str, compile: str, num_envs: int = 1
) -> tuple[float, float]:
    """Return the seconds to the first environment step, and the peak memory (MiB) of a run.

    Args:
        agent: "ppo", "a2c" or "stream_ac".
        env_id: Gymnasium id of the environment.
        compile: auto, on or off, as the agent takes it.
        num_envs: Environments, in PPO and A2C.
    """
    command = [sys.executable, "-m", "hesrl.bench.startup", agent, env_id, compile, str(num_envs)]
    start = time.time()
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    first_step, mebibytes = process.stdout.split()
    return float(first_step) - start, float(mebibytes)


def main(agent: str, env_id: str, compile: str, num_envs: int) -> None:
    """Run an agent for three rollouts and print when it first stepped, and its memory."""
    offset = time.time() - time.perf_counter()
    module = importlib.import_module(f"hesrl.agents.{agent}")
    with (
        tempfile.TemporaryDirectory() as folder,
        timed_calls(NormalizedEnvs, "step") as steps,
        timed_calls(NormalizedEnvs, "advance") as rollouts,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        args = module.Args(env_id=env_id, compile=compile, runs_dir=Path(folder), eval_episodes=1)
        if num_envs > 1:
            args.num_envs, args.num_steps = num_envs, max(1, args.num_steps // num_envs)
        args.total_timesteps = 3 * max(getattr(args, "batch_size", 0), 2048)
        module.main(args)
    print(offset + min(call.start for call in (*steps, *rollouts)), peak_memory())


if __name__ == "__main__":
    agent, env_id, how, count = sys.argv[1:]
    main(agent, env_id, how, int(count))
