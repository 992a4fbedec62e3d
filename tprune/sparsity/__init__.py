"""What a unit is, penalties, analysis, scores, planning and surgery."""
