// The map of socket owners, as the tracing programs keep it and the filter's programs read it (account.h).
//
// Its key is struct xg_owner_key in one of three forms: all of it; without the remote end, for who listens on or has
// bound an address; without both addresses, for who has bound a port of every address. `family` and `netns` are in each.
// What must never break: whoever is found there has asked for the socket. A writer must be in that process's context, or
// have what was captured there.
#ifndef XDPGUARD_OWNERS_H
#define XDPGUARD_OWNERS_H

#include "changes.h"
#include "socket.h"

// In one place, since the stack is small; both begin with the addresses.
union place {
	struct xg_tuple tuple;
	struct xg_owner_key key;
};

// The ends that the socket itself knows.
static __always_inline void fill_place(union place *place, u64 sk)
{
	struct xg_peer peer = {};
	connected_peer(&peer, sk);
	fill_tuple(&place->tuple, sk, &peer);
	u16 local_port = place->tuple.local_port, remote_port = place->tuple.remote_port;
	u16 family = place->tuple.family, protocol = place->tuple.protocol;
	place->key.netns =
		read_field(FIELD(sk, u64, SOCK_NET), NUMBER(XG_NUMBER_NET_KEY), NUMBER(XG_NUMBER_NET_KEY_BYTES));
	place->key.local_port = local_port;
	place->key.remote_port = remote_port;
	place->key.family = family;
	place->key.protocol = protocol;
}

static __always_inline void set_owner(struct xg_owner_key *key, struct xg_owner *owner, u64 flags)
{
	map_update(MAP(XG_MAP_OWNERS), key, owner, flags);
	count_change(key->local_port, key->remote_port);
}

static __always_inline void unset_owner(struct xg_owner_key *key)
{
	map_delete(MAP(XG_MAP_OWNERS), key);
	count_change(key->local_port, key->remote_port);
}

static __always_inline void no_remote_end(struct xg_owner_key *key)
{
	__builtin_memset(key->remote, 0, sizeof(key->remote));
	key->remote_port = 0;
}

// A connection, or a UDP socket that is connected. Nobody is not remembered: an older entry is then no longer true.
static __always_inline void remember_owner(struct xg_owner_key *key, struct xg_owner *owner)
{
	if (owner->attribution == XG_BY_NOBODY)
		unset_owner(key);
	else
		set_owner(key, owner, UPDATE_ANY);
}

// Who called listen() or bind(), or sent from a UDP socket without a peer; the remote end in `key` is not looked at.
// An unspecified local address stands for all. `both`: an IPv6 socket bound to :: that is open to IPv4 too; it gets
// that entry unless an IPv4 socket has it. `key` is used up.
static __always_inline void remember_listener(struct xg_owner_key *key, struct xg_owner *owner, u32 both)
{
	no_remote_end(key);
	if (owner->attribution == XG_BY_NOBODY)
		return;
	set_owner(key, owner, UPDATE_ANY);
	if (!both)
		return;
	key->family = AF_INET;
	set_owner(key, owner, UPDATE_NEW);
}

// At the end of a connection, which is marked only: its last packets are still to come. A SYN finds it no more.
static __always_inline void forget_owner(struct xg_owner_key *key)
{
	struct xg_owner *found = map_lookup(MAP(XG_MAP_OWNERS), key);
	if (!found)
		return;
	found->attribution |= XG_ENDED;
	count_change(key->local_port, key->remote_port);
}

static __always_inline void forget_if_of(struct xg_owner_key *key, const struct xg_owner *owner)
{
	struct xg_owner *found = map_lookup(MAP(XG_MAP_OWNERS), key);
	if (found && found->pid == owner->pid && found->start_time == owner->start_time)
		unset_owner(key);
}

// At the end of what remember_listener() was told of, unless another process has bound the same meanwhile.
static __always_inline void forget_listener(struct xg_owner_key *key, const struct xg_owner *owner, u32 both)
{
	no_remote_end(key);
	forget_if_of(key, owner);
	if (!both)
		return;
	key->family = AF_INET;
	forget_if_of(key, owner);
}

// Is a socket bound to :: open to IPv4 as well?
static __always_inline u32 serves_both(u64 sk, const struct xg_owner_key *key)
{
	return key->family == AF_INET6 && is_zero(key->local) &&
	       !(FIELD(sk, u8, SOCK_V6ONLY) & NUMBER(XG_NUMBER_SOCK_V6ONLY_MASK));
}

// A TCP socket is connected, or listens, and it is known whose it is; or nobody knows yet.
static __always_inline void keep_owner(u64 sk, struct xg_owner *owner, u32 listens)
{
	union place place;
	if (!NUMBER(XG_NUMBER_OWNERS))
		return;
	fill_place(&place, sk);
	struct xg_owner_key *key = &place.key;
	if (listens)
		remember_listener(key, owner, serves_both(sk, key));
	else
		remember_owner(key, owner);
}

// A TCP socket was closed. `owner`: of one that listened, else NULL.
static __always_inline void drop_owner(u64 sk, struct xg_owner *owner)
{
	union place place;
	if (!NUMBER(XG_NUMBER_OWNERS))
		return;
	fill_place(&place, sk);
	struct xg_owner_key *key = &place.key;
	if (owner)
		forget_listener(key, owner, serves_both(sk, key));
	else
		forget_owner(key);
}

// A UDP socket is in use by `owner`, who may have bound it, or got its port by sending. `family`: of the peer, for a
// socket of both that is not connected.
static __always_inline void keep_udp_owner(u64 sk, struct xg_owner *owner, u32 family)
{
	union place place;
	if (!NUMBER(XG_NUMBER_OWNERS))
		return;
	fill_place(&place, sk);
	struct xg_owner_key *key = &place.key;
	if (!key->remote_port && is_zero(key->local) && family)
		key->family = family;
	struct xg_owner *found = map_lookup(MAP(XG_MAP_OWNERS), key);
	if (found && found->pid == owner->pid && found->start_time == owner->start_time)
		return;
	remember_owner(key, owner);
}

#endif
