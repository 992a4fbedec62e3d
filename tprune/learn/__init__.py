"""One training loop for dense, SHS and recovery; evaluation."""
