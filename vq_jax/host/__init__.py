"""What this machine is: memory settings, storage paths, dtypes, accelerator chips, compiled programs."""
