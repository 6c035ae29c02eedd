"""What the agents share: networks, policies, rollouts, advantages and settings."""
