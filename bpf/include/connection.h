// The table of TCP sockets, and the one way in which their events are reported.
#ifndef XDPGUARD_CONNECTION_H
#define XDPGUARD_CONNECTION_H

#include "filter.h"
#include "owner.h"
#include "owners.h"
#include "socket.h"

// include/net/tcp_states.h
enum { ESTABLISHED = 1, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN };

#define SOCK_DONE 1 // enum sock_flags, include/net/sock.h: the FIN has come

static __always_inline struct xg_socket *known(u64 sk)
{
	return map_lookup(MAP(XG_MAP_SOCKETS), &sk);
}

// Begin a socket's life in the table with the current process as its owner. NULL: no room. An older socket's remains
// at the same address are overwritten.
static __always_inline struct xg_socket *begin(u64 sk, u32 stage, u32 attribution)
{
	struct xg_socket fresh = {.stage = stage};
	capture(&fresh.owner, sk, attribution);
	map_update(MAP(XG_MAP_SOCKETS), &sk, &fresh, UPDATE_ANY);
	return known(sk);
}

// Begin that of a connection that came from outside, with no owner. accept() may take it before its handshake is over
// (TCP Fast Open), or while another CPU ends that: the second of them finds what the first has begun.
static __always_inline struct xg_socket *arrived(u64 sk)
{
	struct xg_socket fresh = {.stage = XG_STAGE_ARRIVED, .incoming = 1};
	map_update(MAP(XG_MAP_SOCKETS), &sk, &fresh, UPDATE_NEW);
	return known(sk);
}

static __always_inline void forget(u64 sk)
{
	map_delete(MAP(XG_MAP_SOCKETS), &sk);
}

// What the connection did, as it says itself at its end.
static __always_inline void add_statistics(struct xg_event *event, u64 sk)
{
	event->bytes_sent = FIELD(sk, u64, TCP_BYTES_SENT) - FIELD(sk, u64, TCP_BYTES_RETRANS);
	event->bytes_received = FIELD(sk, u64, TCP_BYTES_RECEIVED);
	if (event->bytes_received && FIELD(sk, u64, SOCK_FLAGS) & 1 << SOCK_DONE)
		event->bytes_received--; // the peer's FIN, which is counted as a byte
	event->packets_sent = FIELD(sk, u32, TCP_SEGS_OUT);
	event->packets_received = FIELD(sk, u32, TCP_SEGS_IN);
	event->retransmits = FIELD(sk, u32, TCP_RETRANS);
	event->rtt_us = FIELD(sk, u32, TCP_SRTT) >> 3;
}

static __always_inline void add_owner(struct xg_event *event, u64 sk, const struct xg_socket *socket)
{
	if (socket) {
		event->owner = socket->owner;
		event->opened = socket->opened;
		event->handshake_ns = socket->handshake_ns;
		event->incoming = socket->incoming;
		return;
	}
	__builtin_memset(&event->owner, 0, sizeof(event->owner));
	event->owner.attribution = is_kernel_socket(sk) ? XG_BY_KERNEL : XG_BY_NOBODY;
	event->opened = event->handshake_ns = 0;
	event->incoming = 0;
}

// `socket`: what the table knows, or NULL. `peer`: its other end, where the socket itself does not know it.
static __always_inline void report(u32 kind, u64 sk, struct xg_socket *socket, struct xg_peer *peer, u32 error)
{
	struct xg_ledger *ledger = ledger_of(kind);
	if (!ledger)
		return;
	COUNT(ledger, seen);
	if (!kind_is_wanted(kind) || !owner_is_wanted(socket ? &socket->owner : 0)) {
		COUNT(ledger, filtered);
		return;
	}
	struct xg_peer own = {};
	if (!peer)
		connected_peer(&own, sk);
	struct xg_tuple tuple;
	fill_tuple(&tuple, sk, peer ? peer : &own);
	if (!tuple_is_wanted(&tuple)) {
		COUNT(ledger, filtered);
		return;
	}
	struct xg_event *event = ring_reserve(MAP(XG_MAP_RING), sizeof(*event), 0);
	if (!event) {
		COUNT(ledger, lost_ring);
		return;
	}
	event->kind = kind;
	event->error = error;
	event->time = boot_time();
	event->sock = sk;
	event->tuple = tuple;
	add_owner(event, sk, socket);
	add_statistics(event, sk);
	u32 device = socket ? socket->ifindex : 0; // at its end a socket has lost its route
	event->ifindex = device ? device : device_of(sk);
	u32 nobody = event->owner.attribution == XG_BY_NOBODY;
	ring_submit(event, 0);
	COUNT(ledger, emitted);
	if (nobody)
		COUNT(ledger, unknown);
}

// The socket is accepted or in use in the current process's context. What nobody was known to be behind is this
// process's from now on: `attribution` says how well that is known.
static __always_inline void taken(u64 sk, struct xg_socket *socket, u32 attribution)
{
	if (!socket)
		socket = arrived(sk);
	if (!socket)
		return;
	capture(&socket->owner, sk, attribution);
	keep_owner(sk, &socket->owner, 0);
	socket->stage = XG_STAGE_OPEN;
	socket->opened = boot_time();
	socket->ifindex = device_of(sk);
	report(XG_EV_ACCEPT, sk, socket, 0, 0);
	if (FIELD(sk, u8, SOCK_STATE) == CLOSE) // its end was told already, and nothing else would forget it
		forget(sk);
}

// A socket is in use by the current process: `socket` is what the table knows of it.
static __always_inline void used(u64 sk, struct xg_socket *socket)
{
	if (socket && socket->stage != XG_STAGE_ARRIVED)
		return;
	u32 state = FIELD(sk, u8, SOCK_STATE);
	if (state == CLOSE || state == LISTEN) // nothing would take it out of the table again
		return;
	if (socket)
		taken(sk, socket, XG_BY_LATE);
	else if ((socket = begin(sk, XG_STAGE_OPEN, XG_BY_LATE)))
		keep_owner(sk, &socket->owner, 0);
}

#endif
