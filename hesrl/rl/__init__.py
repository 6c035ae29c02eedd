"""What agents share and no algorithm is about: networks, acting in NumPy, settings, evaluation."""
