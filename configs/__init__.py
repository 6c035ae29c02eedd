"""Settings of agents and grids of experiments, as YAML files."""
