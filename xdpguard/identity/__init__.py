"""Who a process is: its parents, user, container and pod. Reads files below the root that is given."""
