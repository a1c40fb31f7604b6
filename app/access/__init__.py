"""Who is asking: principals, keys, hosts and origins."""
