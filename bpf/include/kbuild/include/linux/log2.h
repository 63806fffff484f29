// Asked for by BCC's helpers.h for perf ring sizes; nothing of it is used.
