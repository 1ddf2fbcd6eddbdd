"""A run: what is to be asked, who answers it, and where answers go."""
