"""Our program on the controller, in URScript, and the registers through which we talk to it.

With every packet the driver sends all input registers in one package. The program obeys the numbers
of the newest package. It reads the heartbeat in every cycle of the controller:

- when the heartbeat has stood still for ``hold``, speeds become zero,
- when it has stood still for ``lost``, the arm gets ``stopj`` and the program ends,
- at `END` likewise.
"""

from __future__ import annotations

STOP_ACCELERATION = 3.0
"""Deceleration of the stop with which the program ends (rad/s²)."""
END, SPEEDS, WAY, STOP = range(4)
"""What a command is: end the program, turn the joints at speeds, go to angles, come to rest."""

BEAT, NUMBER, COMMAND = (f"input_int_register_{n}" for n in (24, 25, 26))
"""The heartbeat, which changes with every package; number of the command; what it is."""
JOINTS = tuple(f"input_double_register_{n}" for n in range(24, 30))
"""Speeds (rad/s) or angles (rad)."""
ACCELERATION, TIME = "input_double_register_30", "input_double_register_31"
"""Acceleration (rad/s²); time of a way (s)."""
INPUTS = (BEAT, NUMBER, COMMAND, *JOINTS, ACCELERATION, TIME)
"""The registers that we write. Since software 3.9 and 5.3, those from 24 on are for programs like
ours, and those before belong to field buses."""
ECHO, RUNNING = "output_int_register_24", "output_int_register_25"
"""Written by the program: the heartbeat that it has seen; its number, and 0 when it ends."""


def program(name: int, hold: float, lost: float) -> bytes:
    """Return the program.

    Args:
        name: The number that it writes while it runs.
        hold: How long speeds hold without a heartbeat (s).
        lost: Time without a heartbeat after which the arm is stopped (s).
    """
    return f"""\
def hesrl():
  global hesrl_joints = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
  global hesrl_a = {STOP_ACCELERATION}
  global hesrl_t = 1.0
  global hesrl_command = {STOP}
  thread hesrl_motion():
    if hesrl_command == {WAY}:
      movej(hesrl_joints, a=hesrl_a, t=hesrl_t)
    else:
      stopj(hesrl_a)
    end
    while True:
      sync()
    end
  end
  step = get_steptime()
  silent = 0.0
  beat = read_input_integer_register(24)
  number = -1
  motion = run hesrl_motion()
  write_output_integer_register(25, {name})
  while (hesrl_command != {END}) and (silent <= {lost:.6f}):
    new_beat = read_input_integer_register(24)
    if new_beat == beat:
      silent = silent + step
    else:
      silent = 0.0
      beat = new_beat
      write_output_integer_register(24, beat)
      new_number = read_input_integer_register(25)
      hesrl_a = read_input_float_register(30)
      hesrl_joints = [{", ".join(f"read_input_float_register({n})" for n in range(24, 30))}]
      if new_number != number:
        number = new_number
        if hesrl_command != {SPEEDS}:
          kill motion
        end
        hesrl_command = read_input_integer_register(26)
        hesrl_t = read_input_float_register(31)
        if (hesrl_command == {WAY}) or (hesrl_command == {STOP}):
          motion = run hesrl_motion()
        end
      end
    end
    if hesrl_command == {SPEEDS}:
      if silent <= {hold:.6f}:
        speedj(hesrl_joints, hesrl_a, step)
      else:
        speedj([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], hesrl_a, step)
      end
    else:
      sync()
    end
  end
  write_output_integer_register(25, 0)
  if (hesrl_command == {WAY}) or (hesrl_command == {STOP}):
    kill motion
  end
  stopj({STOP_ACCELERATION})
end
""".encode()
