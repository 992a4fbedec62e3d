"""Tests of the training loop and of evaluation."""
