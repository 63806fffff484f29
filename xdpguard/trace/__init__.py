"""Who is behind the traffic: events of the kernel, attributed to processes, users and containers. Pure."""
