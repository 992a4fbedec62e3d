"""Tests of units, penalties, analysis, planning and surgery."""
