// Address trees: an address -> what is known of it. Included by classify.h.
//
// A node is a line of highest addresses; the number of those below the address is the branch to take. There are no
// pointers: the branches of node n are nodes 16 n to 16 n + 15 of the next level (8 n to 8 n + 7 for IPv6).
#ifndef XDPGUARD_TREE_H
#define XDPGUARD_TREE_H

#include "pkt.h"

struct place {
	u64 pair; // class among the rules specific on both sides; 0: none
	u64 word; // see abi.h
};

// 1 if a < b, else 0, without a branch. LESS32: of values below 2^63.
#define LESS32(a, b) (((u64)(a) - (b)) >> 63)
#define LESS64(a, b) ((((~(a)) & (b)) | ((~((a) ^ (b))) & ((a) - (b)))) >> 63)

// How many of the sixteen keys of a line are below the value: of every fourth first, then of the three between.
static __always_inline u64 branch4(u8 *line, u64 value)
{
	u32 *key = (u32 *)line;
	u64 quarter = LESS32(key[3], value) + LESS32(key[7], value) + LESS32(key[11], value);
	key = (u32 *)(line + quarter * 16);
	return quarter * 4 + LESS32(key[0], value) + LESS32(key[1], value) + LESS32(key[2], value);
}

// The same of eight keys.
static __always_inline u64 branch6(u8 *line, u64 value)
{
	u64 *key = (u64 *)line;
	u64 half = LESS64(key[3], value);
	key = (u64 *)(line + half * 32);
	return half * 4 + LESS64(key[0], value) + LESS64(key[1], value) + LESS64(key[2], value);
}

static __always_inline struct place leaf4(struct blob b, struct xg_tree *t, u64 node, u64 value)
{
	u8 *line = line_at(b, (u64)t->leaves + node * XG_LINE);
	struct xg_row *row = (struct xg_row *)line;
	u64 n = LESS32(row[0].last, value) + LESS32(row[1].last, value) + LESS32(row[2].last, value);
	row = (struct xg_row *)(line + n * sizeof(*row));
	struct place found = {row->pair, row->word};
	return found;
}

// Element n of an array of an IPv6 leaf: n is 0, 1 or 2.
#define NTH(array, n) (*(typeof(&(array)[0]))((u8 *)(array) + (n) * sizeof((array)[0])))

static __always_inline struct place search6(struct blob b, struct xg_tree *t, u64 first, u64 steps, u64 low)
{
	u64 at = first;
	for (u64 i = 0; i < 22; i++) {
		if (!steps)
			break;
		steps = (steps - 1) & 31;
		u64 half = 1ULL << steps;
		u64 key = load64(b, t->lows + (at + half - 1) * 8);
		at = (at + half * LESS64(key, low)) & 0xffffffff;
	}
	u64 row = t->rows + at * sizeof(struct xg_row);
	struct place found = {load32(b, row + 4), load64(b, row + 8)};
	return found;
}

static __always_inline struct place leaf6(struct blob b, struct xg_tree *t, u64 node, u64 high, u64 low)
{
	struct xg_leaf6 *leaf = (struct xg_leaf6 *)line_at(b, (u64)t->leaves + node * XG_LINE);
	u64 n = LESS64(leaf->high[0], high) + LESS64(leaf->high[1], high);
	struct place found = {NTH(leaf->pair, n), NTH(leaf->word, n)};
	u64 kinds = leaf->kinds, kind = kinds >> (n * 2) & 3;
	if (kind == XG_SAME)
		return found;
	u64 own = NTH(leaf->high, n);
	if (kind == XG_SEARCH) // an address before all that end in that upper half is the first of them
		return search6(b, t, found.pair, found.word & 31, own == high ? low : 0);
	if (own != high)
		return found;
	u64 before = kinds & ((1 << (n * 2)) - 1); // each block's lower bit is set
	u64 number = (kinds >> XG_FIRST_BLOCK) + (before & 1) + (before >> 2 & 1);
	struct xg_block6 *block = aligned_at(b, t->blocks + number * sizeof(*block), sizeof(*block));
	if (low < block->first || low > block->last)
		return found;
	found.pair = block->pair;
	found.word = block->word;
	return found;
}

// -> the index entry of the stretch that an address lies in; the first and the last reach to the ends. Few addresses
// lie beyond an end, so branches cost less than doing without.
static __always_inline u64 entry_point(struct blob b, struct xg_tree *t, u64 value)
{
	u64 base = t->base, most = t->most, at = 0;
	if (value >= base)
		at = (value - base) >> (t->shift & 63);
	if (at > most)
		at = most;
	return load32(b, (u64)t->index + at * 4);
}

static __always_inline struct place find4(struct blob b, struct xg_tree *t, u64 value)
{
	u64 entry = entry_point(b, t, value), node = entry & XG_NODE_MASK, levels = entry >> XG_NODE_SHIFT;
	for (u64 i = 0; i < XG_TREE_LEVELS; i++) {
		if (!levels)
			break;
		levels = (levels - 1) & (XG_TREE_LEVELS - 1);
		node = node * 16 + branch4(line_at(b, (u64)t->level[levels] + node * XG_LINE), value);
	}
	return leaf4(b, t, node, value);
}

static __always_inline struct place find6(struct blob b, struct xg_tree *t, u64 high, u64 low)
{
	u64 entry = entry_point(b, t, high), node = entry & XG_NODE_MASK, levels = entry >> XG_NODE_SHIFT;
	for (u64 i = 0; i < XG_TREE_LEVELS; i++) {
		if (!levels)
			break;
		levels = (levels - 1) & (XG_TREE_LEVELS - 1);
		node = node * 8 + branch6(line_at(b, (u64)t->level[levels] + node * XG_LINE), high);
	}
	return leaf6(b, t, node, high, low);
}

#endif
