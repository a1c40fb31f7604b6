"""What clients feel while a job trains on the same machine."""
