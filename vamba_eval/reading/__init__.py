"""Many clips ahead of time, read in processes that can be killed."""
