"""The VM lab: kernels to boot, machines, links between them. virtme-ng plans the boot, QEMU runs it."""
