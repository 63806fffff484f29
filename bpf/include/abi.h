// Every struct, enum and limit that user space and the BPF programs share, defined here and only here.
// xdpguard/abi.py reads the numbers out of this file and tables.h; tests/test_abi.py compares its structs with a
// C compiler's view. Plain C, no BCC macros. Included by every program of xdp/ and tc/.
#ifndef XDPGUARD_ABI_H
#define XDPGUARD_ABI_H

#define XG_ABI_VERSION 4
#define XG_MAGIC 0x64475058 // "XPGd", first word of the control page and of every blob

// ---- limits -------------------------------------------------------------------------------------------
#define XG_SLOTS 4          // generations held at once; slot 0 is the built-in "no rules: pass"
#define XG_MAX_RULES 131008 // per hook: with the other counters of it just under 2^17
#define XG_BLOCK_RULES 4096 // rules one block of a bit vector covers: 64 words of 64 bits
#define XG_MAX_BLOCKS 4     // blocks a class may have
#define XG_MAX_WIDE 16384   // so many rules of a hook may be found by bit vectors; see classify.h
#define XG_MAX_LIST 64      // rules of one list
#define XG_MAX_HOPS 8       // buckets in which a pair may lie
#define XG_MAX_TARGETS 256  // distinct redirect targets per hook
#define XG_MAX_EXT_HEADERS 8 // IPv6 extension headers read before the chain counts as too deep
#define XG_LINE 64          // bytes of a cache line

// ---- hooks --------------------------------------------------------------------------------------------
#define XG_INGRESS 0
#define XG_EGRESS 1
#define XG_HOOKS 2

// ---- actions: XDP's own numbers (uapi/linux/bpf.h, enum xdp_action) --------------------------------------
enum xg_action {
	XG_ABORTED = 0, // a redirect whose target is gone
	XG_DROP = 1,
	XG_PASS = 2,
	XG_TX = 3,
	XG_REDIRECT = 4,
	XG_ACTIONS = 5,
};

// ---- protocols as counted -------------------------------------------------------------------------------
enum xg_proto {
	XG_PROTO_TCP,
	XG_PROTO_UDP,
	XG_PROTO_ICMP,
	XG_PROTO_ICMPV6,
	XG_PROTO_SCTP,
	XG_PROTO_ARP,
	XG_PROTO_OTHER_IP, // other IP protocols, and IP whose header could not be read
	XG_PROTO_NON_IP,
	XG_PROTOS = 8,
};

// ---- reasons: packets decided by neither a rule nor the default ------------------------------------------
enum xg_reason {
	XG_REASON_NONE = 0,               // decided by a rule or the default; never counted here
	XG_MALFORMED_ETHERNET = 1,        // shorter than an Ethernet header
	XG_MALFORMED_VLAN = 2,            // a truncated tag, or more than two
	XG_MALFORMED_ARP = 3,             // shorter than its own address lengths say
	XG_MALFORMED_IPV4_HEADER = 4,     // truncated, version not 4, IHL < 5 or past the end
	XG_MALFORMED_IPV4_LENGTH = 5,     // total length below the header or past the frame
	XG_MALFORMED_IPV6_HEADER = 6,     // truncated, version not 6
	XG_MALFORMED_IPV6_LENGTH = 7,     // payload length past the frame
	XG_MALFORMED_IPV6_EXTENSION = 8,  // truncated, too deep, or hop-by-hop not first
	XG_MALFORMED_FRAGMENT = 9,        // past 65,535 bytes, M set on a length not a multiple of 8 (IPv6), a second
	                                  // fragment header, a first fragment cut inside its headers, TCP data
	                                  // that starts inside the TCP header
	XG_MALFORMED_TCP = 10,            // truncated, data offset < 5 or past the end
	XG_MALFORMED_UDP = 11,            // truncated, length < 8 or past the end
	XG_MALFORMED_ICMP = 12,           // truncated (8 bytes)
	XG_MALFORMED_ICMPV6 = 13,         // truncated (4 bytes)
	XG_MALFORMED_SCTP = 14,           // truncated (12 bytes)
	XG_FRAGMENT = 15,                 // `fragments: drop`
	XG_ESSENTIAL = 16,                // ARP, ND, path MTU, DHCP client traffic that no rule matched
	XG_TX_REFUSED = 17,               // tx of a group address, or without an Ethernet header
	XG_MALFORMED_UNREADABLE = 18,     // headers beyond what a program can read: not in an XDP frame's first buffer
	XG_REASONS = 19,
};

// ---- the control page: one per interface, BPF reads only `word` ------------------------------------------
// word: bits 0-7 active slot, 8-15 previous slot, 16-63 deadline in ms of CLOCK_BOOTTIME (0: none).
#define XG_WORD_PREVIOUS_SHIFT 8
#define XG_WORD_DEADLINE_SHIFT 16
#define XG_WORD_SLOT_MASK 0xff
#define XG_CONTROL_BYTES 4096
#define XG_NAME_BYTES 16 // IFNAMSIZ
struct xg_control {
	__u64 word;
	__u64 bank;          // 0 or 1: which element of `totals` holds; stored last, in one store
	__u32 magic;
	__u32 abi_version;
	__u64 epoch;         // random: names this set of maps for ever
	__u64 predecessor;   // epoch of the set whose counters this one takes over; 0: none
	__u64 netns_cookie;  // of the network namespace (SO_NETNS_COOKIE); 0 where the kernel has none
	__u32 ifindex;
	__u32 blob_bytes;    // size class: bytes of one blob
	__u32 table_bytes;   // size class: of those, what the programs reach; a power of two
	__u32 bank_bytes;    // size class: bytes of one of the two banks of totals
	__u32 counters;      // size class: counters per CPU of one slot
	__u32 cpus;          // possible CPUs
	__u32 mode;          // XDP attach flag in force: 2 generic (SKB), 4 native (DRV)
	__u32 flags;         // XG_FLAG_*
	__u32 xdp_program;   // program ids that we attached
	__u32 tc_program;
	__u64 next_serial;
	__u8 name[XG_NAME_BYTES]; // of the interface at its last load, padded with zeros
};
#define XG_FLAG_CLSACT_OURS 1 // we added the clsact qdisc
#define XG_FLAG_L3_DEVICE 2   // frames start at the IP header
#define XG_FLAG_FELL_BACK 4   // a deadline passed unconfirmed; cleared by the next load, confirm or rollback

// ---- counters: per slot one array, key = CPU, value = struct xg_cpu, then `counters` of struct xg_count -----
// One element per CPU: the hooks run with bottom halves off, so nothing else on this CPU is at the same hook
// meanwhile. Zeroed whenever the slot gets another generation.
#define XG_PACKET_BYTES 128 // of the packet in work, per hook: struct pkt
#define XG_PACKETS_BYTES 256
#define XG_FLOW_LINES 1024 // lines of remembered flows, per hook; see flows.h
#define XG_FLOW_SHIFT 54   // 64 - log2 of that
#define XG_FLOWS_BYTES 131072
struct xg_cpu {
	__u8 packets[XG_PACKETS_BYTES];
	__u64 coin; // see flows.h
	__u64 pad[7];
	__u8 flows[XG_FLOWS_BYTES];
};
struct xg_count {
	__u64 packets;
	__u64 bytes;
};
// Index of a counter, from the hook's first one (struct xg_hook): the protocol x action matrix, then the deciders:
// reasons, the default, the rules. Every packet adds to exactly one cell of the matrix and to one decider.
#define XG_COUNT_MATRIX 0
#define XG_COUNT_REASONS (XG_PROTOS * XG_ACTIONS)
#define XG_COUNT_DEFAULT (XG_COUNT_REASONS + XG_REASONS)
#define XG_COUNT_RULES (XG_COUNT_DEFAULT + 1)

// ---- delivery: what XDP was told to send and did not, per CPU; one map per interface ------------------------
// On a line of its own, so that CPUs do not wait for each other. The fields after `unclear` count in element 0 alone.
struct xg_delivery {
	__u64 tx;         // frames
	__u64 redirect;   // frames
	__u64 unclear;    // events after which `tx` is not the whole truth
	__u32 program;    // id of the XDP program whose frames are counted
	__u32 former;     // of the one that it replaced, which may still have frames on their way; 0: none
	__u32 abi_version;
	__u32 pad[7];
};

// ---- accounts: whose packets they were; one map per interface loaded with --account-owners -----------------
// ARRAY, key CPU, value struct xg_accounts, then `room` (a power of two) of struct xg_account, by hash; then of each
// of them the name of its process, of XG_COMM_BYTES. Written by that CPU alone, like the counters.
enum xg_account_kind {
	XG_ACCOUNT_FREE,     // nobody has it yet
	XG_ACCOUNT_OWNER,    // a process, or a user of whom only the socket is known: then pid is 0
	XG_ACCOUNT_KERNEL,   // no process asks for it: ARP, neighbour discovery, multicast membership, kernel sockets
	XG_ACCOUNT_NO_OWNER, // TCP or UDP whose owner is not known
	XG_ACCOUNT_NO_PORTS, // nothing to look for: other protocols, later fragments, unreadable headers
	XG_ACCOUNT_NO_ROOM,  // no account free for this process: those of one user and cgroup together
	XG_ACCOUNT_KINDS = 6,
};
#define XG_NO_UID 0xffffffff // (uid_t)-1: not known
#define XG_COMM_BYTES 16
#define XG_ACCOUNT_HOPS 8    // places that a key may have
#define XG_NOBODY_KINDS 8
#define XG_NOBODIES (XG_HOOKS * XG_NOBODY_KINDS)
#define XG_KNOWN_LINES 1024  // see known.h
#define XG_KNOWN_SHIFT 54    // 64 - log2 of that
#define XG_KNOWN_BYTES 65536
struct xg_account_key {
	__u64 start_time; // of the process, as in struct xg_owner
	__u64 cgroup;     // 0: not known
	__u32 pid;        // 0: not known
	__u32 uid;
	__u32 hook;
	__u32 kind; // enum xg_account_kind
};
struct xg_account {
	struct xg_account_key key; // `kind` is stored last
	struct xg_count all;
	struct xg_count dropped; // of all: verdict drop, or aborted
};
struct xg_asked { // the account that is looked for
	struct xg_account_key key;
	__u8 comm[XG_COMM_BYTES];
	__u64 ends[6];     // struct xg_owner_key, by which the map of owners is asked
	__u64 told_cgroup; // what the sending socket says itself
	__u32 told_uid;
	__u32 told; // 1: the socket told
	__u64 zero[2]; // always 0: see HIDE in memory.h
};
struct xg_accounts {
	__u8 known[XG_KNOWN_BYTES];
	struct xg_asked asked[XG_HOOKS];
	struct xg_account nobody[XG_NOBODIES]; // of no process: at hook * XG_NOBODY_KINDS + kind
};

// ---- the host's one map of changes to the map of owners: what is remembered of that map is right as long as the words of
// its ends are what they were ---------------------------------------------------------------------------------
#define XG_CHANGES 4096
struct xg_changes {
	__u64 all;               // another random number with each change by user space
	__u64 ends[XG_CHANGES];  // by both ports: changes of a connection
	__u64 local[XG_CHANGES]; // by the local port: changes of who listens there
};

#include "tables.h"

#endif
