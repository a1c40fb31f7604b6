"""Speed of the served route against the limit of this machine and against its peers."""
