"""Tests of tprune.model."""
