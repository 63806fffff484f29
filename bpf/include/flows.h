// Flows remembered: the rule that a packet's fields led to, per CPU and hook. Included by classify.h.
//
// Exact: an entry holds every field that the classifier reads, whole, and none outlives its generation (the slot is
// zeroed before it gets another one). Packets of few flows then cost the same whatever the number of rules.
#ifndef XDPGUARD_FLOWS_H
#define XDPGUARD_FLOWS_H

#include "pkt.h"

#define XG_FLOW_VALID (1ULL << 63)
#define XG_NOT_REMEMBERED (~0ULL)

struct xg_flows4 { // three flows of IPv4, the latest first; one line
	u64 ends[3]; // source | destination << 32
	u64 rest[3];
	u32 rule[3];
	u32 family; // 4
};
// One flow of IPv6; one line. It lies in either of the two lines that its hash names, by the throw of a coin: flows of one
// line so find places that do not drive each other out for ever, which a fixed choice does.
struct xg_flow6 {
	u64 src_high, src_low, dst_high, dst_low;
	u64 rest;
	u32 rule;
	u32 pad[4];
	u32 family; // 6
};

struct flow_key {
	u64 ends; // of IPv4
	u64 rest; // ports, L4 index and VLAN
	u64 hash;
	void *line;
	u8 *lines; // of the hook
	u64 *coin;
};

static __always_inline struct flow_key flow_key(struct xg_cpu *cpu, u32 hook, struct pkt *p)
{
	struct flow_key k;
	k.ends = p->src_low | p->dst_low << 32;
	k.rest = p->sport | (u64)p->dport << 16 | (u64)p->l4 << 32 | (u64)p->vlan << 48 | XG_FLOW_VALID;
	k.hash = flow_hash(p, k.ends, k.rest);
	k.coin = &cpu->coin;
	k.lines = cpu->flows + hook * XG_FLOW_LINES * XG_LINE;
	k.line = k.lines + (k.hash >> XG_FLOW_SHIFT) * XG_LINE;
	return k;
}

// The number of a flow's second line: the hash's next bits.
static __always_inline u64 second_line(struct flow_key *k)
{
	return (k->hash >> (2 * XG_FLOW_SHIFT - 64)) & (XG_FLOW_LINES - 1);
}

// 0: it is this flow
static __always_inline u64 differs(struct xg_flow6 *flow, struct flow_key *k, struct pkt *p)
{
	return (flow->src_high ^ p->src_high) | (flow->src_low ^ p->src_low) | (flow->dst_high ^ p->dst_high) |
	       (flow->dst_low ^ p->dst_low) | (flow->rest ^ k->rest) | (flow->family ^ 6);
}

static __always_inline u64 remembered(struct flow_key *k, struct pkt *p)
{
	if (p->family == 4) {
		struct xg_flows4 *line = k->line;
		if (line->family != 4)
			return XG_NOT_REMEMBERED;
		if (line->ends[0] == k->ends && line->rest[0] == k->rest)
			return line->rule[0];
		if (line->ends[1] == k->ends && line->rest[1] == k->rest)
			return line->rule[1];
		if (line->ends[2] == k->ends && line->rest[2] == k->rest)
			return line->rule[2];
		return XG_NOT_REMEMBERED;
	}
	struct xg_flow6 *flow = k->line;
	if (!differs(flow, k, p))
		return flow->rule;
	flow = (void *)(k->lines + second_line(k) * XG_LINE);
	return differs(flow, k, p) ? XG_NOT_REMEMBERED : flow->rule;
}

static __always_inline void remember(struct flow_key *k, struct pkt *p, u64 rule)
{
	if (p->family == 4) {
		struct xg_flows4 *line = k->line;
		if (line->family != 4) {
			line->rest[0] = line->rest[1] = 0;
			line->family = 4;
		}
		line->ends[2] = line->ends[1];
		line->rest[2] = line->rest[1];
		line->rule[2] = line->rule[1];
		line->ends[1] = line->ends[0];
		line->rest[1] = line->rest[0];
		line->rule[1] = line->rule[0];
		line->ends[0] = k->ends;
		line->rest[0] = k->rest;
		line->rule[0] = rule;
		return;
	}
	// A linear congruential generator (Knuth, MMIX); its top bit is the coin.
	u64 coin = *k->coin * 6364136223846793005ULL + 1442695040888963407ULL;
	*k->coin = coin;
	struct xg_flow6 *flow = k->line;
	if (coin >> 63)
		flow = (void *)(k->lines + second_line(k) * XG_LINE);
	flow->family = 6;
	flow->src_high = p->src_high;
	flow->src_low = p->src_low;
	flow->dst_high = p->dst_high;
	flow->dst_low = p->dst_low;
	flow->rest = k->rest;
	flow->rule = rule;
}

#endif
