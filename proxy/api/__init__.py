"""What clients call: one file per surface, routes and nothing else."""
