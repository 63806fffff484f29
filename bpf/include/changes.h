// Changes to the map of socket owners, counted where those who have remembered something of it look: struct xg_changes.
//
// What must never break: a writer counts after its change, a reader looks before it asks the map. Then what a reader
// remembers under a word's value is what the map said at that value or later, and no later change keeps the value.
// That takes a machine whose CPUs see each other's stores in their order (x86): user space says where that holds.
#ifndef XDPGUARD_CHANGES_H
#define XDPGUARD_CHANGES_H

#include "hash.h"
#include "memory.h"

#define CHANGES ((u8 *)bpf_pseudo_fd(2, XG_MAP_CHANGES))

static __always_inline u64 *ends_word(u32 local_port, u32 remote_port)
{
	u64 mixed = ((u64)local_port << 16 | remote_port) * XG_GOLDEN >> 32;
	return (u64 *)(CHANGES + __builtin_offsetof(struct xg_changes, ends) + (mixed & (XG_CHANGES - 1)) * 8);
}

static __always_inline u64 *local_word(u32 local_port)
{
	return (u64 *)(CHANGES + __builtin_offsetof(struct xg_changes, local) + (local_port & (XG_CHANGES - 1)) * 8);
}

// Another number than before each change of what the map says of these ends.
static __always_inline u64 changes_of(u32 local_port, u32 remote_port)
{
	return *(volatile u64 *)CHANGES + *(volatile u64 *)ends_word(local_port, remote_port) +
	       *(volatile u64 *)local_word(local_port);
}

// After a change of an entry with these ports; without a remote one it is of who listens.
static __always_inline void count_change(u32 local_port, u32 remote_port)
{
	u64 *word = remote_port ? ends_word(local_port, remote_port) : local_word(local_port);
	__sync_fetch_and_add(word, 1);
}

#endif
