"""Other engines, fed with the same model, for comparison in one run; `table.py` lists them."""
