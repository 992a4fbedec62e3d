"""Parallel text: checks, tokenizer, memory-mapped ids, the embedded corpus."""
