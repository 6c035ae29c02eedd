"""Single-file agents; each is also a script (``python agents/ppo.py``)."""
