"""What work costs: seconds, memory, energy and FLOPs, measured by the harness."""
