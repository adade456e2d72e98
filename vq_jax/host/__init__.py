"""What this machine is: memory settings, storage paths, accelerator chips, the compilation cache."""
