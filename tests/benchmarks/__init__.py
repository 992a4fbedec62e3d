"""Tests of tprune.benchmarks."""
