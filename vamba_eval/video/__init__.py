"""One file in, one clip out."""
