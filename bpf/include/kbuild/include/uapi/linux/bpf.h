// BCC brings its own copy as linux/bpf.h (virtual_bpf.h).
