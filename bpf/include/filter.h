// What is wanted, and the ledger of what became of every event. Cheap conditions come first; a condition that
// nobody set is a constant zero, which the verifier removes with all behind it.
#ifndef XDPGUARD_FILTER_H
#define XDPGUARD_FILTER_H

#include "kernel.h"

#define HAS_FILTER(field) (NUMBER(XG_NUMBER_FILTERS) & 1 << (field))

static __always_inline struct xg_ledger *ledger_of(u32 kind)
{
	return map_at(MAP(XG_MAP_LEDGER), kind);
}

// A softirq may come in between on the same CPU.
#define COUNT(ledger, field) __sync_fetch_and_add(&(ledger)->field, 1)

static __always_inline int kind_is_wanted(u32 kind)
{
	return NUMBER(XG_NUMBER_KINDS) >> kind & 1;
}

static __always_inline int in_set(u32 field, u64 value)
{
	struct xg_set_key key = {.value = value, .field = field};
	return map_lookup(MAP(XG_MAP_SETS), &key) != 0;
}

static __always_inline int process_is_wanted(u32 pid, u32 uid)
{
	if (HAS_FILTER(XG_SET_PID) && !in_set(XG_SET_PID, pid))
		return 0;
	return !HAS_FILTER(XG_SET_UID) || in_set(XG_SET_UID, uid);
}

// Nobody known passes: user space may know.
static __always_inline int owner_is_wanted(const struct xg_owner *owner)
{
	if (!(HAS_FILTER(XG_SET_PID) | HAS_FILTER(XG_SET_UID) | HAS_FILTER(XG_SET_CGROUP)))
		return 1;
	if (!owner || owner->attribution == XG_BY_NOBODY)
		return 1;
	if (owner->attribution == XG_BY_KERNEL)
		return 0;
	if (!process_is_wanted(owner->pid, owner->uid))
		return 0;
	return !HAS_FILTER(XG_SET_CGROUP) || !in_set(XG_SET_CGROUP, owner->cgroup);
}

static __always_inline int in_network(u32 family, const u8 *address)
{
	struct xg_network_key key = {.bits = 32 + 128, .family = family};
	__builtin_memcpy(key.address, address, 16);
	return map_lookup(MAP(XG_MAP_NETWORKS), &key) != 0;
}

static __always_inline int tuple_is_wanted(const struct xg_tuple *tuple)
{
	if (HAS_FILTER(XG_SET_PORT) && !in_set(XG_SET_PORT, tuple->local_port) &&
	    !in_set(XG_SET_PORT, tuple->remote_port))
		return 0;
	if (HAS_FILTER(XG_SET_NETNS) && !in_set(XG_SET_NETNS, tuple->netns))
		return 0;
	return !HAS_FILTER(XG_SET_NETWORK) || in_network(tuple->family, tuple->local) ||
	       in_network(tuple->family, tuple->remote);
}

#endif
