// Included by BCC's linux/bpf.h for the classic BPF opcodes; nothing of it is used.
