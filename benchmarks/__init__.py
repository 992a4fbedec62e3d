"""Latency, quality, the result contract and the report."""
