"""The device runner: host session and native programs."""
