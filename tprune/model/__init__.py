"""The encoder-decoder, its conversion from Hugging Face families, and its search."""
