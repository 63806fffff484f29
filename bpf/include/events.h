// What the tracing programs tell user space. Like abi.h the one definition: xdpguard/abi.py reads it as text.
//
// What must never break: an owner is who asked the kernel for something, captured in that process's own context.
// In a softirq the current task is a bystander: what is not known there stays unknown.
#ifndef XDPGUARD_EVENTS_H
#define XDPGUARD_EVENTS_H

#include "abi.h"

#define XG_COMM 16  // TASK_COMM_LEN
#define XG_PATH 256 // bytes of an executable's path, cut at the end
#define XG_MAX_CGROUPS 16384 // that a filter may reject at a time

enum xg_event_kind {
	XG_EV_CONNECT = 1,    // established by us
	XG_EV_CONNECT_FAILED, // `error` says why: a positive errno, 0 = given up by its own process
	XG_EV_ACCEPT,         // taken by accept()
	XG_EV_CLOSE,          // of a connection that was established
	XG_EV_RETRANSMIT,
	XG_EV_UDP_SEND,       // in the flow table, never in the ring
	XG_EV_UDP_RECV,
	XG_EV_LISTEN,         // a TCP socket began to listen
	XG_EV_FORK,           // from here on struct xg_task_event
	XG_EV_EXEC,
	XG_EV_EXIT,
	XG_EV_KINDS,
};

enum xg_attribution {
	XG_BY_NOBODY, // unknown
	XG_BY_EXACT,  // captured at connect, accept, listen, send or receive of this very socket
	XG_BY_LATE,   // the first process seen to use a socket that is older than the tracing
	XG_BY_PROCFS, // found in /proc at the start; set by user space only
	XG_BY_KERNEL, // a kernel socket: no process is behind it
};

#define XG_ENDED 0x80000000 // with an attribution in the map of owners: that connection is closed

struct xg_owner {
	__u64 start_time;  // of the process, ns, CLOCK_BOOTTIME: with `pid` it names one process for ever
	__u64 cgroup;      // id of the cgroup: v2, else of the first v1 hierarchy; 0 = not known
	__u32 pid;         // as the host counts: thread group
	__u32 tid;
	__u32 uid;
	__u32 gid;
	__u32 attribution; // enum xg_attribution
	__u32 pad;
	__u8 comm[XG_COMM]; // name of the thread
};

// Addresses in network order, an IPv4 address in the first four bytes; ports in host order. A v4-mapped IPv6
// address is IPv4. Local is always our process's side.
struct xg_tuple {
	__u8 local[16];
	__u8 remote[16];
	__u32 netns; // inode number of the socket's network namespace
	__u16 local_port;
	__u16 remote_port;
	__u16 family;   // AF_INET or AF_INET6
	__u16 protocol; // IPPROTO_TCP or IPPROTO_UDP
	__u32 pad;
};

// Who owns a socket is remembered by this: see owners.h.
struct xg_owner_key {
	__u8 local[16];
	__u8 remote[16];
	__u64 netns; // cookie of the network namespace, which no other ever has; before Linux 5.14 its inode number
	__u16 local_port;
	__u16 remote_port;
	__u16 family;
	__u16 protocol;
};

struct xg_event {
	__u32 kind; // enum xg_event_kind
	__u32 error;
	__u64 time; // ns, CLOCK_BOOTTIME
	__u64 sock; // the kernel's address of the socket: names it until its close
	struct xg_owner owner;
	struct xg_tuple tuple;
	__u64 opened;       // ns, CLOCK_BOOTTIME: connect() or accept(); 0 = before the tracing
	__u64 handshake_ns; // connect() or SYN received until established; 0 = not known
	__u64 bytes_sent;   // without retransmissions
	__u64 bytes_received;
	__u32 packets_sent; // segments
	__u32 packets_received;
	__u32 retransmits;
	__u32 rtt_us;  // smoothed; 0 = no sample
	__u32 ifindex; // the socket's device or the route's, 0 = not known
	__u32 incoming; // 1: accepted, 0: connected
};

struct xg_task_event {
	__u32 kind;
	__u32 uid;
	__u64 time;
	__u64 start_time;        // of the process that forked, was executed, or ended
	__u64 parent_start_time; // of its parent
	__u64 cgroup;
	__u32 pid;
	__u32 parent;
	__u32 gid;
	__u32 pad;
	__u8 comm[XG_COMM];
	__u8 path[XG_PATH]; // exec: what was executed, as it was given; else empty
};

// UDP is counted by (socket, peer, direction) and read by user space once in a while. No probe tells of the end of a UDP
// socket, and the next one gets its address in the kernel at once: the process and its own end tell them apart.
struct xg_flow_key {
	__u64 sock;
	__u8 remote[16];
	__u8 local[16]; // as the socket is bound
	__u16 remote_port;
	__u16 family;
	__u32 kind; // XG_EV_UDP_SEND or XG_EV_UDP_RECV
	__u32 pid;  // who sends or receives: thread group
	__u16 local_port;
	__u16 pad;
};

struct xg_flow {
	__u64 packets;
	__u64 bytes; // payload
	__u64 first; // ns, CLOCK_BOOTTIME
	__u64 last;
	struct xg_owner owner;
	struct xg_tuple tuple;
	__u32 ifindex;
	__u32 pad;
};

// One element for each kind, per CPU: seen = emitted + filtered + lost_*.
struct xg_ledger {
	__u64 seen;
	__u64 emitted;
	__u64 filtered;  // by the filter in the kernel
	__u64 lost_ring; // no room in the ring
	__u64 lost_map;  // no room in a table
	__u64 unknown;   // of the emitted: nobody was known to be behind it
};

// ---- between the programs ---------------------------------------------------------------------------------
enum xg_filter_field {
	XG_SET_PID,
	XG_SET_UID,
	XG_SET_PORT,
	XG_SET_NETNS,
	XG_SET_CGROUP, // those that are not wanted; of all others here, those that are
	XG_SET_NETWORK, // in a map of its own
};

struct xg_set_key {
	__u64 value;
	__u32 field; // enum xg_filter_field
	__u32 pad;
};

struct xg_network_key {
	__u32 bits; // 32 for the family, then those of the network
	__u32 family;
	__u8 address[16];
};

// How far a TCP socket is, as far as the tracing saw.
enum xg_stage {
	XG_STAGE_ASKED = 1,  // inside connect(), whose result a kretprobe will tell
	XG_STAGE_CONNECTING, // the SYN was sent
	XG_STAGE_ARRIVED,    // established from outside, not accepted yet: it has no owner
	XG_STAGE_OPEN,       // its connect or accept was reported, or it is older than the tracing
	XG_STAGE_LISTENING,
};

struct xg_socket {
	struct xg_owner owner;
	__u64 opened;
	__u64 handshake_ns;
	__u32 stage; // enum xg_stage
	__u32 incoming;
	__u32 ifindex;
	__u32 pad;
};

struct xg_peer {
	__u8 address[16];
	__u16 port;
	__u16 family; // 0: not known
	__u32 pad;
};

// What a thread asked for, from the entry of a function or system call until its return.
struct xg_call {
	__u64 sock;
	__u64 address;  // sockaddr in user memory, or 0
	__u64 messages; // struct msghdr or struct mmsghdr[] in user memory, or 0
	__u64 bytes;
	struct xg_peer peer;
	__u32 pending; // 1: received, and whom from is not known before the address is in user memory
	__u32 mapped;  // 1: udpv6_sendmsg, which calls udp_sendmsg for a v4-mapped address
	__u32 left;    // messages that the call may still send
	__u32 pad;
};

#endif
