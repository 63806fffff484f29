"""The one room that touches the kernel: bpf(2), maps, pins, netlink, namespaces."""
