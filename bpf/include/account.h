// Whose packet it was. Only in programs built with -DXG_ACCOUNT (`load --account-owners`); other programs have none
// of this. Every packet adds to exactly one account of its hook, so that the accounts add up to what was seen.
//
// What must never break: a packet is a process's only where the map of owners or its own socket says so.
#ifndef XDPGUARD_ACCOUNT_H
#define XDPGUARD_ACCOUNT_H

#ifdef XG_ACCOUNT

#include "events.h"
#include "known.h"

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

// Only of such packets an owner is looked for, and remembered.
static __always_inline u32 has_ports(struct pkt *p)
{
	return (p->protocol == XG_PROTO_TCP || p->protocol == XG_PROTO_UDP) && p->l4 >= XG_L4_TCP4;
}

static __always_inline u32 begins(struct pkt *p)
{
	return p->protocol == XG_PROTO_TCP && p->l4 & TCP_SYN; // the last of XG_L4_TCP's 8 bits are the flags
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
static __always_inline struct xg_owner *owner_of(struct xg_owner_key *ends, struct pkt *p, u32 hook)
{
	fill_ends(ends, p, hook);
	struct xg_owner *owner = map_lookup(MAP(XG_MAP_OWNERS), ends);
	if (owner && !(begins(p) && owner->attribution & XG_ENDED))
		return owner;
	__builtin_memset(ends->remote, 0, sizeof(ends->remote));
	ends->remote_port = 0;
	owner = map_lookup(MAP(XG_MAP_OWNERS), ends);
	if (owner)
		return owner;
	__builtin_memset(ends->local, 0, sizeof(ends->local));
	return map_lookup(MAP(XG_MAP_OWNERS), ends);
}

// The account that the packet belongs to, into `asked`, which lies in a map: what the verifier does not follow.
static __always_inline void choose(struct xg_asked *asked, struct pkt *p, u32 hook)
{
	struct xg_account_key *key = &asked->key;
	__builtin_memset(asked, 0, __builtin_offsetof(struct xg_asked, ends));
	key->uid = XG_NO_UID;
	key->hook = hook;
	key->kind = XG_ACCOUNT_KERNEL;
	if (is_the_kernels(p))
		return;
	key->kind = XG_ACCOUNT_NO_PORTS;
	if (!has_ports(p))
		return;
	key->kind = XG_ACCOUNT_NO_OWNER;
	struct xg_owner *owner = owner_of((struct xg_owner_key *)asked->ends, p, hook);
	if (!owner)
		return;
	key->kind = XG_ACCOUNT_KERNEL;
	if ((owner->attribution & ~XG_ENDED) == XG_BY_KERNEL)
		return;
	key->kind = XG_ACCOUNT_OWNER;
	key->start_time = owner->start_time;
	key->cgroup = owner->cgroup;
	key->pid = owner->pid;
	key->uid = owner->uid;
	__builtin_memcpy(asked->comm, owner->comm, XG_COMM_BYTES);
}

static __always_inline struct xg_account *account_from(struct xg_accounts *a, u64 account)
{
	account -= XG_NOBODIES * ACCOUNT_BYTES;
	if ((s64)account >= 0)
		return account_at(a, account);
	return &a->nobody[(account / ACCOUNT_BYTES) & (XG_NOBODIES - 1)];
}

static __always_inline void add_to(struct xg_account *account, u32 action, u64 packets, u64 bytes)
{
	account->all.packets += packets;
	account->all.bytes += bytes;
	if (action == XG_DROP || action == XG_ABORTED) {
		account->dropped.packets += packets;
		account->dropped.bytes += bytes;
	}
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
static __always_inline void ask_socket(struct xg_asked *asked, struct __sk_buff *skb, struct pkt *p)
{
	asked->told = 0;
	struct bpf_sock *sk = skb->sk;
	if (!sk || sk->state == TIME_WAIT)
		return;
	sk = bpf_sk_fullsock(sk); // none of a connection that is being accepted: its listener answers
	if (sk && is_an_answer(sk, p))
		return;
	asked->told = 1;
	asked->told_uid = bpf_get_socket_uid(skb);
	if (!NUMBER(XG_NUMBER_CGROUP_V1))
		asked->told_cgroup = bpf_skb_cgroup_id(skb);
}

static __always_inline u32 find_account(struct xg_accounts *a, struct xg_asked *asked, struct pkt *p, u32 hook)
{
	choose(asked, p, hook);
	FORGET;
	if (hook == XG_EGRESS && asked->told && asked->key.kind != XG_ACCOUNT_KERNEL) {
		asked->key.kind = XG_ACCOUNT_OWNER;
		asked->key.uid = asked->told_uid;
		if (!NUMBER(XG_NUMBER_CGROUP_V1))
			asked->key.cgroup = asked->told_cgroup;
	}
	FORGET;
	return account_of(a, asked);
}

// Now and then the map is asked although the account is known: what is never asked for makes room there for others.
#define ASK_AGAIN 64 // packets; a power of two

// What was told is of the socket that sends, so it is compared each time.
static __always_inline u32 is_stale(struct xg_account *account, struct xg_asked *asked, u32 hook)
{
	u64 other = 0;
	if (hook == XG_EGRESS && asked->told) {
		other = account->key.uid ^ asked->told_uid;
		if (!NUMBER(XG_NUMBER_CGROUP_V1))
			other |= account->key.cgroup ^ asked->told_cgroup;
	}
	return other || !((account->all.packets + 1) & (ASK_AGAIN - 1));
}

static __always_inline void account_packet(
	struct xg_accounts *a, struct pkt *p, u32 hook, u32 action, u64 packets, u64 bytes)
{
	struct xg_asked *asked = &a->asked[hook];
	u64 zero = asked->zero[0], account = ACCOUNT_NOWHERE;
	HIDE(action, zero);
	HIDE(packets, zero);
	struct known_flow flow = known_flow(a, p, hook, begins(p) << 1 | (hook == XG_EGRESS ? asked->told : 0));
	u64 remembers = NUMBER(XG_NUMBER_KNOWN) && has_ports(p);
	HIDE(remembers, zero);
	if (remembers) {
		account = known_account(&flow, p);
		HIDE(account, zero);
		if (account != ACCOUNT_NOWHERE && is_stale(account_from(a, account), asked, hook))
			account = ACCOUNT_NOWHERE;
		HIDE(account, zero);
	}
	if (account == ACCOUNT_NOWHERE) {
		account = find_account(a, asked, p, hook);
		HIDE(account, zero);
		if (remembers)
			know_account(&flow, p, account);
	}
	HIDE(account, zero);
	add_to(account_from(a, account), action, packets, bytes);
}

// There are accounts for each CPU.
static __always_inline void account_frame(struct pkt *p, u32 action, u64 bytes)
{
	struct xg_accounts *a = accounts_here();
	if (a)
		account_packet(a, p, XG_INGRESS, action, 1, bytes);
}

static __always_inline void account_skb(struct __sk_buff *skb, struct pkt *p, u32 action, u64 packets, u64 bytes)
{
	struct xg_accounts *a = accounts_here();
	if (!a)
		return;
	ask_socket(&a->asked[XG_EGRESS], skb, p);
	FORGET;
	account_packet(a, p, XG_EGRESS, action, packets, bytes);
}

#define ACCOUNT_FRAME(p, action, bytes) account_frame(p, action, bytes)
#define ACCOUNT_SKB(skb, p, action, packets, bytes) account_skb(skb, p, action, packets, bytes)

#else

#define ACCOUNT_FRAME(p, action, bytes)
#define ACCOUNT_SKB(skb, p, action, packets, bytes)

#endif

#endif
