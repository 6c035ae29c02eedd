"""What the tests of agents share with those of the recorded step."""

from tests.train_step.conftest import interpreted as interpreted
