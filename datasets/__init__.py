"""Training samples read from preprocessed data; no video decoding, no face tools."""
