"""What curvature is good for besides step sizes, as short programs to read and run."""
