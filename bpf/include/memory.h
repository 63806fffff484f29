// How the programs reach their maps and the blob. Included by every header below it, and by the programs.
//
// No map is declared here: user space makes them by bpf(2) and patches these placeholders in the kept bytecode
// (xdpguard/kernel/program.py). bpf_pseudo_fd(1, N) becomes a map, (2, N) a map's first value, (0, N) a number.
#ifndef XDPGUARD_MEMORY_H
#define XDPGUARD_MEMORY_H

#include "abi.h"

#define XG_MAP_CONTROL 0x7e000001  // ARRAY of one struct xg_control, mmapable
#define XG_MAP_BLOBS 0x7e000002    // ARRAY_OF_MAPS: slot -> ARRAY of one blob, mmapable; written by user space only
#define XG_MAP_COUNTERS 0x7e000003 // ARRAY_OF_MAPS: slot -> ARRAY, key CPU, value struct xg_count[]; written here
#define XG_MAP_TARGETS 0x7e000004  // DEVMAP_HASH: ifindex -> ifindex of redirect targets
#define XG_MAP_DELIVERY 0x7e000005 // ARRAY: CPU -> struct xg_delivery, mmapable; of the tracepoint programs
#define XG_MAP_OWNERS 0x7e000006   // LRU_HASH: struct xg_owner_key -> struct xg_owner; see owners.h. One for the whole host
#define XG_MAP_ACCOUNTS 0x7e000007 // ARRAY, key CPU, value struct xg_accounts and more, mmapable; of one interface
#define XG_MAP_CHANGES 0x7e000008  // ARRAY of one struct xg_changes, mmapable. One for the whole host
#define XG_NUMBER_BLOB_MASK 0x7e000011    // table_bytes - 8: keeps an offset inside and 8-byte aligned
#define XG_NUMBER_COUNTER_MASK 0x7e000012 // counters of a CPU - 1
#define XG_NUMBER_FLAGS 0x7e000013        // XG_FLAG_* of the interface
#define XG_NUMBER_IFINDEX 0x7e000014
#define XG_NUMBER_NETNS 0x7e000015         // inode number of the network namespace
#define XG_NUMBER_BULK_TX_EXACT 0x7e000016 // 1: the driver's xdp_bulk_tx tells exactly what was lost
#define XG_NUMBER_NETNS_KEY 0x7e000017     // what struct xg_owner_key names the network namespace by
#define XG_NUMBER_ACCOUNT_MASK 0x7e000018  // accounts by hash - 1, in bytes of struct xg_account
#define XG_NUMBER_KNOWN 0x7e000019         // 1: remember whose a flow is
// Offsets of kernel fields, from BTF.
#define XG_NUMBER_PROG_AUX 0x7e000021       // bpf_prog.aux
#define XG_NUMBER_AUX_ID 0x7e000022         // bpf_prog_aux.id
#define XG_NUMBER_DEVICE_IFINDEX 0x7e000023 // net_device.ifindex
#define XG_NUMBER_DEVICE_NET 0x7e000024     // net_device.nd_net.net
#define XG_NUMBER_NET_INODE 0x7e000025      // net.ns.inum

// ---- tracing (bpf/trace) --------------------------------------------------------------------------------
#define XG_MAP_RING 0x7e000101     // RINGBUF of struct xg_event and struct xg_task_event
#define XG_MAP_SOCKETS 0x7e000102  // LRU_HASH: address of a TCP socket -> struct xg_socket
#define XG_MAP_CALLS 0x7e000103    // LRU_HASH: thread -> struct xg_call, the system call that it is in
#define XG_MAP_FLOWS 0x7e000104    // ARRAY_OF_MAPS of one HASH: struct xg_flow_key -> struct xg_flow
#define XG_MAP_LEDGER 0x7e000105   // PERCPU_ARRAY: kind -> struct xg_ledger
#define XG_MAP_SETS 0x7e000106     // HASH: struct xg_set_key -> __u8; what the filter wants
#define XG_MAP_NETWORKS 0x7e000107 // LPM_TRIE: struct xg_network_key -> __u8
#define XG_NUMBER_KINDS 0x7e000111   // 1 << enum xg_event_kind of those that are wanted
#define XG_NUMBER_FILTERS 0x7e000112 // XG_FILTER_* of the fields that have a condition
#define XG_NUMBER_CGROUP_V1 0x7e000113 // 1: owners' cgroups are those of a v1 hierarchy
#define XG_NUMBER_OWNERS 0x7e000114    // 1: keep XG_MAP_OWNERS
// Offsets of kernel fields, from BTF; which field is said in xdpguard/kernel/offsets.py.
#define XG_NUMBER_NET_KEY 0x7e00011e       // in struct net: what struct xg_owner_key names it by
#define XG_NUMBER_NET_KEY_BYTES 0x7e00011f // and how many bytes that has
#define XG_NUMBER_SOCK_FAMILY 0x7e000121
#define XG_NUMBER_SOCK_STATE 0x7e000122
#define XG_NUMBER_SOCK_NUM 0x7e000123
#define XG_NUMBER_INET_SPORT 0x7e000120 // of struct inet_sock, which begins with a struct sock
#define XG_NUMBER_SOCK_DPORT 0x7e000124
#define XG_NUMBER_SOCK_DADDR 0x7e000125
#define XG_NUMBER_SOCK_RCV_SADDR 0x7e000126
#define XG_NUMBER_SOCK_V6_DADDR 0x7e000127
#define XG_NUMBER_SOCK_V6_RCV_SADDR 0x7e000128
#define XG_NUMBER_SOCK_NET 0x7e000129
#define XG_NUMBER_SOCK_BOUND 0x7e00012a
#define XG_NUMBER_SOCK_REFCNT 0x7e00012b      // the byte that holds skc_net_refcnt
#define XG_NUMBER_SOCK_REFCNT_MASK 0x7e00012c // its bit
#define XG_NUMBER_SOCK_PROTOCOL 0x7e00012d
#define XG_NUMBER_SOCK_ERR 0x7e00012e
#define XG_NUMBER_SOCK_DST 0x7e00012f
#define XG_NUMBER_SOCK_SOCKET 0x7e000130
#define XG_NUMBER_SOCK_FLAGS 0x7e000139
#define XG_NUMBER_DST_DEV 0x7e000131
#define XG_NUMBER_TCP_BYTES_SENT 0x7e000132
#define XG_NUMBER_TCP_BYTES_RETRANS 0x7e000133
#define XG_NUMBER_TCP_BYTES_RECEIVED 0x7e000134
#define XG_NUMBER_TCP_SEGS_OUT 0x7e000135
#define XG_NUMBER_TCP_SEGS_IN 0x7e000136
#define XG_NUMBER_TCP_RETRANS 0x7e000137
#define XG_NUMBER_TCP_SRTT 0x7e000138
#define XG_NUMBER_TASK_FLAGS 0x7e000141
#define XG_NUMBER_TASK_PID 0x7e000142
#define XG_NUMBER_TASK_TGID 0x7e000143
#define XG_NUMBER_TASK_LEADER 0x7e000144
#define XG_NUMBER_TASK_START 0x7e000145
#define XG_NUMBER_TASK_PARENT 0x7e000146
#define XG_NUMBER_TASK_SIGNAL 0x7e000147
#define XG_NUMBER_TASK_CGROUPS 0x7e000148
#define XG_NUMBER_TASK_FILES 0x7e000149
#define XG_NUMBER_SIGNAL_LIVE 0x7e00014a
#define XG_NUMBER_CSS_SET_SLOT 0x7e00014b // css_set.dfl_cgrp (v2), or the place in css_set.subsys (v1)
#define XG_NUMBER_CSS_CGROUP 0x7e00014c
#define XG_NUMBER_CGROUP_NODE 0x7e00014d
#define XG_NUMBER_NODE_ID 0x7e00014e
#define XG_NUMBER_FILES_TABLE 0x7e00014f
#define XG_NUMBER_TABLE_FD 0x7e000150
#define XG_NUMBER_FILE_PRIVATE 0x7e000151
#define XG_NUMBER_SOCKET_SOCK 0x7e000152
#define XG_NUMBER_MSG_NAME 0x7e000153
#define XG_NUMBER_SKB_HEAD 0x7e000154
#define XG_NUMBER_SKB_NETWORK 0x7e000155
#define XG_NUMBER_SKB_TRANSPORT 0x7e000156
#define XG_NUMBER_SKB_IIF 0x7e000157
#define XG_NUMBER_BINPRM_FILENAME 0x7e000158
#define XG_NUMBER_SOCK_V6ONLY 0x7e000161      // the byte that holds skc_ipv6only
#define XG_NUMBER_SOCK_V6ONLY_MASK 0x7e000162 // its bit

#define MAP(n) ((void *)bpf_pseudo_fd(1, n))
#define NUMBER(n) ((u64)bpf_pseudo_fd(0, n))

// The plain helpers: BCC's own forms want its map declarations.
static void *(*map_lookup)(void *map, void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*redirect_map)(void *map, u64 key, u64 flags) = (void *)BPF_FUNC_redirect_map;

static __always_inline void *map_at(void *map, u32 key)
{
	return map_lookup(map, &key);
}

// A packet pointer read anew from the context. Volatile, so that clang does not reuse an earlier one: how far that
// was checked differs from way to way through the parser, and the verifier would keep them apart.
#define FRESH(field) ((u8 *)(long)*(volatile u32 *)&(field))

// Adding a zero that the verifier cannot know makes a value unknown to it. Ways through the program that differ
// only in such values look alike to it, and what follows is checked once, not once a way. The empty assembly
// keeps clang from moving the addition to where the value is used.
#define HIDE(value, zero)                            \
	do {                                         \
		(value) += (zero);                   \
		asm volatile("" : "+r"(value));      \
	} while (0)

// One generation's tables. Every load is masked, so that a wrong offset reads a wrong value but never outside.
struct blob {
	u8 *base;
	u64 mask;
};

static __always_inline u8 load8(struct blob b, u64 offset)
{
	return *(b.base + (offset & (b.mask | 7)));
}
// So many bytes, a power of two, on a multiple of that: to be read at constant offsets.
static __always_inline void *aligned_at(struct blob b, u64 offset, u64 bytes)
{
	return b.base + (offset & (b.mask & ~(bytes - 1)));
}
static __always_inline u8 *line_at(struct blob b, u64 offset)
{
	return aligned_at(b, offset, XG_LINE);
}
static __always_inline u64 load64(struct blob b, u64 offset)
{
	return *(u64 *)(b.base + (offset & b.mask));
}
static __always_inline u32 load32(struct blob b, u64 offset)
{
	return *(u32 *)(b.base + (offset & (b.mask | 4)));
}
static __always_inline u16 load16(struct blob b, u64 offset)
{
	return *(u16 *)(b.base + (offset & (b.mask | 6)));
}

#endif
