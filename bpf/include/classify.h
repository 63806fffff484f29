// struct pkt -> the index of the first rule that matches. The kernel half of xdpguard/classify/.
//
// Rules are split by how specific their addresses are (xdpguard/classify/split.py). Specific on both sides: found in
// a hash of pairs of address classes. On one side: in a list of that address's class. On none, and the few that
// fit nowhere else: by bit vectors (wide.h). Of each group the first match is found; the first of those wins. What a
// rule says beside its specific addresses is a condition: five lanes of one word that are compared at once.
#ifndef XDPGUARD_CLASSIFY_H
#define XDPGUARD_CLASSIFY_H

#include "flows.h"
#include "tree.h"
#include "wide.h"

// The lanes of a packet that are the same for all groups.
static __always_inline u64 lanes_of(struct blob b, struct xg_hook *hook, struct pkt *p)
{
	u64 l4 = load8(b, (u64)hook->l4_classes + p->l4), vlan = load8(b, (u64)hook->vlan_classes + p->vlan);
	return (u64)p->sport << XG_LANE_SPORT | (u64)p->dport << XG_LANE_DPORT | l4 << XG_LANE_L4 | vlan << XG_LANE_VLAN;
}

static __always_inline int holds(struct blob b, struct xg_hook *hook, u64 number, u64 lanes)
{
	struct xg_condition *c = aligned_at(b, hook->conditions + number * sizeof(*c), sizeof(*c));
	return ((((lanes | XG_LANE_GUARDS) - c->low) & (c->high - lanes)) & XG_LANE_GUARDS) == XG_LANE_GUARDS;
}

// The first rule that a word stands for and that holds, if it comes before `best`.
static __always_inline u64 better(struct blob b, struct xg_hook *hook, u64 best, u64 word, u64 lanes)
{
	u64 rule = word & XG_RULE_MASK, at = (word >> XG_AT_SHIFT) & XG_AT_MASK;
	if (rule >= best)
		return best;
	if (!((word >> XG_LIST_SHIFT) & 1))
		return holds(b, hook, at, lanes) ? rule : best;
	at = hook->entries + at * 8;
	for (u64 i = 0; i < XG_MAX_LIST; i++) {
		u64 entry = load64(b, at);
		rule = entry & XG_RULE_MASK;
		if (rule >= best)
			break;
		if (holds(b, hook, (entry >> XG_AT_SHIFT) & XG_AT_MASK, lanes))
			return rule;
		if ((s64)entry < 0)
			break;
		at += 8;
	}
	return best;
}

// 1 if two keys are equal, else 0, without a branch. Keys are below 2^63.
#define SAME(a, b) ((((a) ^ (b)) - 1) >> 63)

// -> the word of a pair of classes; XG_NO_RULE: no rule has both. Which of a line's places holds the pair is chance,
// so it is found without a branch.
static __always_inline u64 pair_word(struct blob b, struct xg_hook *hook, u64 src, u64 dst)
{
	u64 key = src | dst << 32;
	u64 at = (((key * XG_GOLDEN) >> 32) * hook->pair_lines) >> 32;
	for (u64 i = 0; i < XG_MAX_HOPS; i++) {
		u8 *line = line_at(b, hook->pairs + (at + i) * XG_LINE);
		struct xg_pair *pair = (struct xg_pair *)line;
		u64 second = SAME(pair[1].key, key), third = SAME(pair[2].key, key), fourth = SAME(pair[3].key, key);
		u64 place = second | third << 1 | fourth * 3;
		asm("" : "+r"(place)); // verifiers before Linux 6.11 know nothing of an OR of two unknowns, but of an AND
		place &= 3;
		u64 free = !pair[3].key;
		pair = (struct xg_pair *)(line + place * sizeof(*pair));
		if (pair->key == key)
			return pair->word;
		if (free)
			break;
	}
	return XG_NO_RULE;
}

// What the search among the rules' addresses has left to do: the best rule so far, and the wide ones.
struct candidates {
	u64 best;
	u64 wide;   // the first wide rule
	u64 c0, c1; // class records of both addresses among the wide rules
};

static __always_inline struct candidates specific(struct blob b, struct xg_hook *hook, struct pkt *p, struct xg_addresses *t)
{
	struct place src, dst;
	if (p->family == 6) {
		src = find6(b, &t->src, p->src_high, p->src_low);
		dst = find6(b, &t->dst, p->dst_high, p->dst_low);
	} else {
		src = find4(b, &t->src, p->src_low);
		dst = find4(b, &t->dst, p->dst_low);
	}
	u64 lanes = lanes_of(b, hook, p), best = t->fallback;
	u64 src_broad = src.word >> XG_BROAD_SHIFT, dst_broad = dst.word >> XG_BROAD_SHIFT;
	if (src.pair && dst.pair)
		best = better(b, hook, best, pair_word(b, hook, src.pair, dst.pair), lanes);
	HIDE(best, hook->zero);
	best = better(b, hook, best, src.word, lanes | dst_broad << XG_LANE_BROAD);
	HIDE(best, hook->zero);
	best = better(b, hook, best, dst.word, lanes | src_broad << XG_LANE_BROAD);
	struct candidates c = {best, t->wide, 0, 0};
	if (c.wide < best) {
		c.c0 = load32(b, t->src_wide + src_broad * 4);
		c.c1 = load32(b, t->dst_wide + dst_broad * 4);
	}
	return c;
}

static __always_inline u64 classify_any(struct blob b, struct xg_hook *hook, struct pkt *p)
{
	// ARP has no addresses that a rule could name.
	struct candidates c = {hook->arp_fallback, hook->arp_first, hook->arp_wide, hook->arp_wide};
	if (p->family)
		c = specific(b, hook, p, p->family == 6 ? &hook->ipv6 : &hook->ipv4);
	HIDE(c.best, hook->zero);
	HIDE(c.wide, hook->zero);
	HIDE(c.c0, hook->zero);
	HIDE(c.c1, hook->zero);
	if (c.wide < c.best) {
		u64 rule = first_wide(b, hook, p, c.c0, c.c1);
		if (rule < c.best)
			return rule;
	}
	return c.best;
}

static __always_inline u64 classify(struct blob b, struct xg_cpu *cpu, u32 direction, struct xg_hook *hook, struct pkt *p)
{
	struct flow_key key = flow_key(cpu, direction, p);
	if (p->family) {
		u64 rule = remembered(&key, p);
		if (rule != XG_NOT_REMEMBERED)
			return rule;
	}
	u64 rule = classify_any(b, hook, p);
	if (p->family)
		remember(&key, p, rule);
	return rule;
}

#endif
