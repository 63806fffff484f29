// Counting: every packet adds to exactly one cell of the protocol x action matrix and to exactly one decider
// (a reason, the default, or a rule), so that seen = sum of actions = sum of protocols = sum of deciders.
//
// One array element per CPU: the hooks run with bottom halves off, so nothing else on this CPU adds to the same
// hook's counters in between.
#ifndef XDPGUARD_COUNT_H
#define XDPGUARD_COUNT_H

#include "memory.h"

static __always_inline void add(struct xg_cpu *cpu, u64 mask, u64 index, u64 packets, u64 bytes)
{
	struct xg_count *count = (struct xg_count *)(cpu + 1) + (index & mask);
	count->packets += packets;
	count->bytes += bytes;
}

// `base`: number of the hook's first counter.
static __always_inline void count(struct xg_cpu *cpu, u64 base, u64 protocol, u64 action, u64 decider, u64 packets, u64 bytes)
{
	u64 mask = NUMBER(XG_NUMBER_COUNTER_MASK);
	add(cpu, mask, base + XG_COUNT_MATRIX + protocol * XG_ACTIONS + action, packets, bytes);
	add(cpu, mask, base + decider, packets, bytes);
}

#endif
