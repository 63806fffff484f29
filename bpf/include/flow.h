// UDP, counted by (socket, peer, direction) in a table that user space takes away once in a while.
#ifndef XDPGUARD_FLOW_H
#define XDPGUARD_FLOW_H

#include "filter.h"
#include "owner.h"
#include "owners.h"
#include "socket.h"

// What belongs to one datagram. `local`, `device`: as the packet says, where the socket does not; zero: not known.
struct datagram {
	struct xg_peer peer;
	struct xg_peer local;
	u64 bytes;
	u32 kind; // XG_EV_UDP_SEND or XG_EV_UDP_RECV
	u32 device;
};

static __always_inline int is_udp(u64 sk)
{
	u16 family = FIELD(sk, u16, SOCK_FAMILY);
	return (family == AF_INET || family == AF_INET6) && FIELD(sk, u16, SOCK_PROTOCOL) == UDP;
}

// A new flow, in the context of the process that sends or receives; 0 if it is not wanted.
static __always_inline int fill_flow(struct xg_flow *flow, u64 sk, struct datagram *one)
{
	capture(&flow->owner, sk, XG_BY_EXACT);
	keep_udp_owner(sk, &flow->owner, one->peer.family);
	if (!owner_is_wanted(&flow->owner))
		return 0;
	fill_tuple(&flow->tuple, sk, &one->peer);
	if (is_zero(flow->tuple.local) && one->local.family == flow->tuple.family)
		__builtin_memcpy(flow->tuple.local, one->local.address, 16);
	if (!tuple_is_wanted(&flow->tuple))
		return 0;
	flow->packets = 1;
	flow->bytes = one->bytes;
	flow->first = flow->last = boot_time();
	flow->ifindex = one->device ? one->device : device_of(sk);
	flow->pad = 0;
	return 1;
}

static __always_inline void account(u64 sk, struct datagram *one)
{
	struct xg_ledger *ledger = ledger_of(one->kind);
	void *table = map_at(MAP(XG_MAP_FLOWS), 0);
	if (!ledger || !table)
		return;
	COUNT(ledger, seen);
	if (!kind_is_wanted(one->kind)) {
		COUNT(ledger, filtered);
		return;
	}
	struct xg_flow_key key = {.sock = sk, .remote_port = one->peer.port, .family = one->peer.family};
	__builtin_memcpy(key.remote, one->peer.address, 16);
	if (FIELD(sk, u16, SOCK_FAMILY) == AF_INET6)
		read_kernel(key.local, 16, sk + NUMBER(XG_NUMBER_SOCK_V6_RCV_SADDR));
	else
		*(u32 *)key.local = FIELD(sk, u32, SOCK_RCV_SADDR);
	key.kind = one->kind;
	key.pid = current_ids() >> 32;
	key.local_port = FIELD(sk, u16, SOCK_NUM);
	struct xg_flow *flow = map_lookup(table, &key);
	if (!flow) {
		struct xg_flow fresh;
		if (!fill_flow(&fresh, sk, one)) {
			COUNT(ledger, filtered);
			return;
		}
		if (!map_update(table, &key, &fresh, UPDATE_NEW)) {
			COUNT(ledger, emitted);
			return;
		}
		flow = map_lookup(table, &key); // another CPU was faster, or there is no room
		if (!flow) {
			COUNT(ledger, lost_map);
			return;
		}
	}
	__sync_fetch_and_add(&flow->packets, 1);
	__sync_fetch_and_add(&flow->bytes, one->bytes);
	flow->last = boot_time();
	COUNT(ledger, emitted);
}

#endif
