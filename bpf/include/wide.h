// The rules that no list holds, being broad on both sides or too many for one place: found by bit vectors.
// Included by classify.h.
//
// Each dimension maps the packet's value to a class, and a class is the set of rules that allow the value, as a
// bit vector in blocks of 4,096 rules: which words of 64 rules are not empty, in a word the rules. The vectors of all
// dimensions are ANDed, the words first; the first bit left is the first match
// (Lakshman and Stiliadis, SIGCOMM 1998; aggregation: Baboescu and Varghese, SIGCOMM 2001). The answer is exact:
// the loop is as long as all blocks and words that there can be.
#ifndef XDPGUARD_WIDE_H
#define XDPGUARD_WIDE_H

#include "pkt.h"

// Bit number of the lowest set bit. __builtin_ctzll has no BPF instruction: BCC 0.26 crashes on it, and clang 19
// makes it a load from a table of constants, which BCC does not relocate. The empty assembly keeps clang from
// seeing that the two steps together are just that.
static __always_inline u64 lowest_bit(u64 x)
{
	x = (x & -x) - 1;
	asm("" : "+r"(x));
	x = x - ((x >> 1) & 0x5555555555555555ULL);
	x = (x & 0x3333333333333333ULL) + ((x >> 2) & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (x * 0x0101010101010101ULL) >> 56;
}

// -> offset of the class record of a small value
static __always_inline u64 small_class(struct blob b, struct xg_paged *table, u64 index)
{
	u64 page = load16(b, (u64)table->pages + (index >> 8) * 2);
	u64 number = load16(b, (u64)table->entries + ((page << 8) | (index & 255)) * 2);
	return table->classes + number * (XG_MAX_BLOCKS * 4);
}

// c0, c1: offsets of the class records of both addresses. -> the first rule, or XG_NO_RULE
static __always_inline u64 first_wide(struct blob b, struct xg_hook *hook, struct pkt *p, u64 c0, u64 c1)
{
	u64 c2 = small_class(b, &hook->small[XG_SPORT], p->sport);
	u64 c3 = small_class(b, &hook->small[XG_DPORT], p->dport);
	u64 c4 = small_class(b, &hook->small[XG_L4], p->l4);
	u64 c5 = small_class(b, &hook->small[XG_VLAN], p->vlan);

#define AND6(load, a, b, c, d, e, f) (load(a) & load(b) & load(c) & load(d) & load(e) & load(f))
#define BLOCK_OF(class) load32(b, (class) + block * 4)
#define WORDS(offset) load64(b, offset)
#define RULES(offset) load64(b, (offset) + 8 + word * 8)
	u64 rules = 0, at = 0;
	for (u64 block = 0; block < XG_MAX_BLOCKS; block++) {
		if (block >= hook->wide_blocks)
			break;
		u64 o0 = BLOCK_OF(c0), o1 = BLOCK_OF(c1), o2 = BLOCK_OF(c2);
		u64 o3 = BLOCK_OF(c3), o4 = BLOCK_OF(c4), o5 = BLOCK_OF(c5);
		u64 words = AND6(WORDS, o0, o1, o2, o3, o4, o5);
		for (u64 j = 0; j < 64; j++) {
			if (!words)
				break;
			u64 word = lowest_bit(words) & 63;
			words &= words - 1;
			rules = AND6(RULES, o0, o1, o2, o3, o4, o5);
			at = block * 64 + word;
			if (rules)
				break;
		}
		if (rules)
			break;
	}
	if (!rules)
		return XG_NO_RULE;
	return load32(b, (u64)hook->wide_rules + (at * 64 + lowest_bit(rules)) * 4);
}

#endif
