// The accounts of an interface, in memory of each CPU: found by hash, opened where there is room. Included by known.h.
//
// What must never break: an account, once there, stays where it is, so that the accounts always add up and a place that was
// found for a flow stays right.
#ifndef XDPGUARD_ACCOUNTS_H
#define XDPGUARD_ACCOUNTS_H

#include "changes.h"
#include "pkt.h"

#define ACCOUNT_BYTES sizeof(struct xg_account)
#define ACCOUNT_NOWHERE 0xffffffff

static __always_inline struct xg_accounts *accounts_here(void)
{
	return map_at(MAP(XG_MAP_ACCOUNTS), bpf_get_smp_processor_id());
}

// `place`: in bytes from the first account by hash.
static __always_inline struct xg_account *account_at(struct xg_accounts *a, u64 place)
{
	return (struct xg_account *)((u8 *)(a + 1) + (place & NUMBER(XG_NUMBER_ACCOUNT_MASK)));
}

static __always_inline u8 *comm_at(struct xg_accounts *a, u64 place)
{
	u64 mask = NUMBER(XG_NUMBER_ACCOUNT_MASK), names = mask + ACCOUNT_BYTES;
	return (u8 *)(a + 1) + names + ((place & mask) >> 2); // ACCOUNT_BYTES / XG_COMM_BYTES
}

static __always_inline u64 not_same(const struct xg_account_key *a, const struct xg_account_key *b)
{
	return (a->start_time ^ b->start_time) | (a->cgroup ^ b->cgroup) | (a->pid ^ b->pid) | (a->uid ^ b->uid) |
	       (a->hook ^ b->hook) | (a->kind ^ b->kind);
}

// -> where the account is, or where it may be opened; ACCOUNT_NOWHERE: all of its places are others'.
static __always_inline u32 place_of(struct xg_accounts *a, const struct xg_account_key *key)
{
	u64 mixed = (key->start_time ^ key->cgroup << 32 ^ key->cgroup >> 32) * XG_GOLDEN;
	mixed ^= (u64)key->pid << 32 | (key->uid ^ key->hook << 30 ^ key->kind << 27);
	u64 place = (mixed * XG_GOLDEN) >> 32;
	place *= ACCOUNT_BYTES;
	for (int i = 0; i < XG_ACCOUNT_HOPS; i++) {
		struct xg_account *account = account_at(a, place);
		if (account->key.kind == XG_ACCOUNT_FREE || !not_same(&account->key, key))
			return place & NUMBER(XG_NUMBER_ACCOUNT_MASK);
		place += ACCOUNT_BYTES;
	}
	return ACCOUNT_NOWHERE;
}

static __always_inline void open_at(struct xg_account *account, const struct xg_account_key *key)
{
	account->key.start_time = key->start_time;
	account->key.cgroup = key->cgroup;
	account->key.pid = key->pid;
	account->key.uid = key->uid;
	account->key.hook = key->hook;
	*(volatile u32 *)&account->key.kind = key->kind;
}

// For the time when there is no room any more: the account of all processes of this user in this cgroup.
static __always_inline u32 users_account(struct xg_accounts *a, struct xg_asked *asked)
{
	struct xg_account_key *key = &asked->key;
	key->kind = XG_ACCOUNT_NO_ROOM;
	key->start_time = key->pid = 0;
	FORGET;
	u32 place = place_of(a, key);
	HIDE(place, asked->zero[0]);
	if (place != ACCOUNT_NOWHERE)
		open_at(account_at(a, place), key);
	return place;
}

// Which account a key is of, as an offset from the first of nobody's. There always is one. A new one is opened, and with it
// the one that others of its user will fall to.
static __always_inline u32 account_of(struct xg_accounts *a, struct xg_asked *asked)
{
	struct xg_account_key *key = &asked->key;
	u32 kind = key->kind;
	if (kind == XG_ACCOUNT_OWNER) {
		u32 place = place_of(a, key), is_new = 0;
		HIDE(place, asked->zero[0]);
		if (place != ACCOUNT_NOWHERE) {
			is_new = account_at(a, place)->key.kind == XG_ACCOUNT_FREE;
			if (is_new) {
				open_at(account_at(a, place), key);
				__builtin_memcpy(comm_at(a, place), asked->comm, XG_COMM_BYTES);
			}
		}
		HIDE(is_new, asked->zero[0]);
		if (is_new || place == ACCOUNT_NOWHERE) {
			u32 users = users_account(a, asked);
			place = is_new ? place : users;
		}
		HIDE(place, asked->zero[0]);
		if (place != ACCOUNT_NOWHERE)
			return XG_NOBODIES * ACCOUNT_BYTES + place;
		kind = XG_ACCOUNT_NO_ROOM;
	}
	return (key->hook * XG_NOBODY_KINDS + kind) * ACCOUNT_BYTES;
}

#endif
