// Whose a flow was found to be, remembered per CPU: the place of its account, for as long as nothing has changed in the map
// of owners that could make it another one. Included by account.h.
//
// What must never break: an entry holds the whole flow and what the words of its ends in struct xg_changes were before the
// map was asked. Whoever changes the map adds to a word of that entry's afterwards, so what was found is not believed any
// more. An entry of the map that makes room for another one says nothing new, and changes no word.
#ifndef XDPGUARD_KNOWN_H
#define XDPGUARD_KNOWN_H

#include "accounts.h"

#define KNOWN_VALID (1ULL << 63)

struct xg_known4 { // two flows of IPv4, the latest first; one line
	u64 ends[2];   // source | destination << 32
	u64 rest[2];
	u64 changes[2];
	u32 account[2];
	u32 family; // 4
	u32 pad;
};
struct xg_known6 { // one flow of IPv6; one line
	u64 src_high, src_low, dst_high, dst_low;
	u64 rest;
	u64 changes;
	u32 account;
	u32 pad;
	u32 family; // 6
	u32 pad2;
};

struct known_flow {
	u64 ends, rest, changes;
	void *line;
};

// `more`: what else the account depends on, in 8 bits.
static __always_inline struct known_flow known_flow(struct xg_accounts *a, struct pkt *p, u32 hook, u32 more)
{
	struct known_flow k;
	u64 udp = p->protocol == XG_PROTO_UDP;
	u32 in = hook == XG_INGRESS, local = in ? p->dport : p->sport, remote = in ? p->sport : p->dport;
	k.ends = p->src_low | p->dst_low << 32;
	k.rest = p->sport | (u64)p->dport << 16 | udp << 32 | (u64)hook << 33 | (u64)more << 40 | KNOWN_VALID;
	k.line = a->known + (flow_hash(p, k.ends, k.rest) >> XG_KNOWN_SHIFT) * XG_LINE;
	k.changes = changes_of(local, remote);
	return k;
}

static __always_inline u64 other6(struct xg_known6 *line, struct known_flow *k, struct pkt *p)
{
	return (line->src_high ^ p->src_high) | (line->src_low ^ p->src_low) | (line->dst_high ^ p->dst_high) |
	       (line->dst_low ^ p->dst_low) | (line->rest ^ k->rest) | (line->changes ^ k->changes) | (line->family ^ 6);
}

// -> an account as account_of() tells it, or ACCOUNT_NOWHERE
static __always_inline u32 known_account(struct known_flow *k, struct pkt *p)
{
	if (p->family == 4) {
		struct xg_known4 *line = k->line;
		if (line->family != 4)
			return ACCOUNT_NOWHERE;
		if (line->ends[0] == k->ends && line->rest[0] == k->rest && line->changes[0] == k->changes)
			return line->account[0];
		if (line->ends[1] == k->ends && line->rest[1] == k->rest && line->changes[1] == k->changes)
			return line->account[1];
		return ACCOUNT_NOWHERE;
	}
	struct xg_known6 *line = k->line;
	return other6(line, k, p) ? ACCOUNT_NOWHERE : line->account;
}

static __always_inline void know_account(struct known_flow *k, struct pkt *p, u32 account)
{
	if (p->family == 4) {
		struct xg_known4 *line = k->line;
		line->rest[1] = line->family == 4 ? line->rest[0] : 0;
		line->ends[1] = line->ends[0];
		line->changes[1] = line->changes[0];
		line->account[1] = line->account[0];
		line->ends[0] = k->ends;
		line->rest[0] = k->rest;
		line->changes[0] = k->changes;
		line->account[0] = account;
		line->family = 4;
		return;
	}
	struct xg_known6 *line = k->line;
	line->src_high = p->src_high;
	line->src_low = p->src_low;
	line->dst_high = p->dst_high;
	line->dst_low = p->dst_low;
	line->rest = k->rest;
	line->changes = k->changes;
	line->account = account;
	line->family = 6;
}

#endif
