"""The workplace of many GPUs and machines; the only folder that imports Ray."""
