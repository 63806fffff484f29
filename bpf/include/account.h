// Whose packet it was. Only in programs built with -DXG_ACCOUNT (`load --account-owners`); other programs have none
// of this. Every packet adds to exactly one account of its hook, so that the accounts add up to what was seen.
//
// What must never break: a packet is a process's only where the map of owners or its own socket says so.
#ifndef XDPGUARD_ACCOUNT_H
#define XDPGUARD_ACCOUNT_H

#ifdef XG_ACCOUNT

#include "events.h"
#include "pkt.h"

static long (*account_update)(void *map, void *key, void *value, u64 flags) = (void *)BPF_FUNC_map_update_elem;

#define NEW_ONLY 1 // BPF_NOEXIST
#define TCP_SYN 2
#define SOCK_RAW 3
#define TIME_WAIT 6 // include/net/tcp_states.h
#define ICMP_ECHO 8
#define ICMPV6_ECHO 128

// ARP; neighbour discovery and multicast membership (ICMPv6 130-137 and 143, IGMP).
static __always_inline u32 is_the_kernels(struct pkt *p)
{
	u32 type = p->sport;
	if (p->protocol == XG_PROTO_ICMPV6)
		return p->l4 >= XG_L4_HEADER && (type - 130 <= 7 || type == 143);
	return p->protocol == XG_PROTO_ARP || p->l4 == XG_L4_IPV4 + 2;
}

static __always_inline void put_address(u8 *to, u64 family, u64 high, u64 low)
{
	u32 *words = (u32 *)to;
	u32 is_ipv4 = family == 4;
	words[0] = bpf_htonl(is_ipv4 ? low : high >> 32);
	words[1] = is_ipv4 ? 0 : bpf_htonl(high);
	words[2] = is_ipv4 ? 0 : bpf_htonl(low >> 32);
	words[3] = is_ipv4 ? 0 : bpf_htonl(low);
}

static __always_inline void fill_ends(struct xg_owner_key *t, struct pkt *p, u32 hook)
{
	u32 in = hook == XG_INGRESS;
	put_address(t->local, p->family, in ? p->dst_high : p->src_high, in ? p->dst_low : p->src_low);
	put_address(t->remote, p->family, in ? p->src_high : p->dst_high, in ? p->src_low : p->dst_low);
	t->netns = NUMBER(XG_NUMBER_NETNS_KEY);
	t->local_port = in ? p->dport : p->sport;
	t->remote_port = in ? p->sport : p->dport;
	t->family = p->family == 4 ? 2 : 10; // AF_INET, AF_INET6
	t->protocol = p->protocol == XG_PROTO_TCP ? TCP : UDP;
}

// NULL: nobody known. The connection itself; who has bound its local address and port; who has bound the port.
static __always_inline struct xg_owner *owner_of(struct pkt *p, u32 hook)
{
	struct xg_owner_key ends;
	fill_ends(&ends, p, hook);
	struct xg_owner *owner = map_lookup(MAP(XG_MAP_OWNERS), &ends);
	u32 begins = p->protocol == XG_PROTO_TCP && p->l4 & TCP_SYN; // the last of XG_L4_TCP's 8 bits are the flags
	if (owner && !(begins && owner->attribution & XG_ENDED))
		return owner;
	__builtin_memset(ends.remote, 0, sizeof(ends.remote));
	ends.remote_port = 0;
	owner = map_lookup(MAP(XG_MAP_OWNERS), &ends);
	if (owner)
		return owner;
	__builtin_memset(ends.local, 0, sizeof(ends.local));
	return map_lookup(MAP(XG_MAP_OWNERS), &ends);
}

// The account that the packet belongs to. -> who owns it, or NULL
static __always_inline struct xg_owner *choose(struct xg_account_key *key, struct pkt *p, u32 hook)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->uid = XG_NO_UID;
	key->hook = hook;
	if (is_the_kernels(p)) {
		key->kind = XG_ACCOUNT_KERNEL;
		return 0;
	}
	key->kind = XG_ACCOUNT_NO_PORTS;
	if ((p->protocol != XG_PROTO_TCP && p->protocol != XG_PROTO_UDP) || p->l4 < XG_L4_TCP4)
		return 0;
	key->kind = XG_ACCOUNT_NO_OWNER;
	struct xg_owner *owner = owner_of(p, hook);
	if (!owner)
		return 0;
	if ((owner->attribution & ~XG_ENDED) == XG_BY_KERNEL) {
		key->kind = XG_ACCOUNT_KERNEL;
		return 0;
	}
	key->kind = XG_ACCOUNT_OWNER;
	key->start_time = owner->start_time;
	key->cgroup = owner->cgroup;
	key->pid = owner->pid;
	key->uid = owner->uid;
	return owner;
}

// A new account, and for the time when there is no room any more the one that it then falls to.
static __always_inline struct xg_account *opened(struct xg_account_key *key, struct xg_owner *owner)
{
	struct xg_account fresh = {};
	u64 start_time = key->start_time;
	u32 pid = key->pid;
	key->kind = XG_ACCOUNT_NO_ROOM;
	key->start_time = key->pid = 0;
	account_update(MAP(XG_MAP_ACCOUNTS), key, &fresh, NEW_ONLY);
	key->kind = XG_ACCOUNT_OWNER;
	key->start_time = start_time;
	key->pid = pid;
	if (owner)
		__builtin_memcpy(fresh.comm, owner->comm, sizeof(fresh.comm));
	account_update(MAP(XG_MAP_ACCOUNTS), key, &fresh, NEW_ONLY);
	return map_lookup(MAP(XG_MAP_ACCOUNTS), key);
}

// User space has made the accounts of nobody in particular, so that one is always found.
static __always_inline struct xg_account *account_of(struct xg_account_key *key, struct xg_owner *owner)
{
	struct xg_account *account = map_lookup(MAP(XG_MAP_ACCOUNTS), key);
	if (account)
		return account;
	account = opened(key, owner);
	if (account)
		return account;
	key->kind = XG_ACCOUNT_NO_ROOM;
	key->start_time = key->pid = 0;
	account = map_lookup(MAP(XG_MAP_ACCOUNTS), key);
	if (account)
		return account;
	key->cgroup = 0;
	key->uid = XG_NO_UID;
	return map_lookup(MAP(XG_MAP_ACCOUNTS), key);
}

static __always_inline void add_to(struct xg_account *account, u32 action, u64 packets, u64 bytes)
{
	if (!account)
		return;
	account->all.packets += packets;
	account->all.bytes += bytes;
	if (action == XG_DROP || action == XG_ABORTED) {
		account->dropped.packets += packets;
		account->dropped.bytes += bytes;
	}
}

static __always_inline void account_frame(struct pkt *p, u32 action, u64 bytes)
{
	struct xg_account_key key;
	struct xg_owner *owner = choose(&key, p, XG_INGRESS);
	add_to(account_of(&key, owner), action, 1, bytes);
}

// The kernel answers by raw sockets of its own, which are root's: TCP resets and last acknowledgements; echo replies and
// errors of ICMP, so that of the messages of raw sockets the requests alone are believed to be a user's.
static __always_inline u32 is_an_answer(struct bpf_sock *sk, struct pkt *p)
{
	u32 is_request = p->l4 >= XG_L4_HEADER && p->sport == (p->family == 4 ? ICMP_ECHO : ICMPV6_ECHO);
	if (sk->type != SOCK_RAW)
		return 0;
	return sk->protocol == TCP ||
	       ((p->protocol == XG_PROTO_ICMP || p->protocol == XG_PROTO_ICMPV6) && !is_request);
}

// What the sending socket itself says: its user, as its network namespace counts users, and its v2 cgroup where the
// host's processes are in that hierarchy. In TIME_WAIT it has no user any more, and would say "nobody".
static __always_inline void ask_socket(struct xg_account_key *key, struct __sk_buff *skb, struct pkt *p)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk || sk->state == TIME_WAIT)
		return;
	sk = bpf_sk_fullsock(sk); // none of a connection that is being accepted: its listener answers
	if (sk && is_an_answer(sk, p))
		return;
	key->kind = XG_ACCOUNT_OWNER;
	key->uid = bpf_get_socket_uid(skb);
	if (!NUMBER(XG_NUMBER_CGROUP_V1))
		key->cgroup = bpf_skb_cgroup_id(skb);
}

static __always_inline void account_skb(struct __sk_buff *skb, struct pkt *p, u32 action, u64 packets, u64 bytes)
{
	struct xg_account_key key;
	struct xg_owner *owner = choose(&key, p, XG_EGRESS);
	if (key.kind != XG_ACCOUNT_KERNEL)
		ask_socket(&key, skb, p);
	add_to(account_of(&key, owner), action, packets, bytes);
}

#define ACCOUNT_FRAME(p, action, bytes) account_frame(p, action, bytes)
#define ACCOUNT_SKB(skb, p, action, packets, bytes) account_skb(skb, p, action, packets, bytes)

#else

#define ACCOUNT_FRAME(p, action, bytes)
#define ACCOUNT_SKB(skb, p, action, packets, bytes)

#endif

#endif
