// UDP by kprobes: what a process sends, when it was sent, and what it receives, with the packet's own addresses.
#include "flow.h"

// int udp_sendmsg(struct sock *, struct msghdr *, size_t): the name was copied into the kernel before. Without one
// the socket is connected.
static __always_inline void asked(struct xg_registers *ctx, u32 version)
{
	u64 sk = ARGUMENT(ctx, FIRST), thread = current_ids();
	u64 name = FIELD(ARGUMENT(ctx, SECOND), u64, MSG_NAME);
	struct xg_call call = {.sock = sk};
	if (name)
		named_peer(&call.peer, name, 0);
	if (!call.peer.family)
		connected_peer(&call.peer, sk);
	struct xg_call *former = map_lookup(MAP(XG_MAP_CALLS), &thread);
	// A return that was missed, since the kernel follows a limited number at once: what became of it is not known.
	if (former && former->sock && !(version == 4 && former->sock == sk && former->mapped)) {
		struct xg_ledger *ledger = ledger_of(XG_EV_UDP_SEND);
		if (ledger) {
			COUNT(ledger, seen);
			COUNT(ledger, lost_map);
		}
	}
	call.mapped = version == 6;
	map_update(MAP(XG_MAP_CALLS), &thread, &call, UPDATE_ANY);
}

int xdpguard_udp_send(struct xg_registers *ctx)
{
	asked(ctx, 4);
	return 0;
}

int xdpguard_udp6_send(struct xg_registers *ctx)
{
	asked(ctx, 6);
	return 0;
}

// Of both. The bytes sent, or a negative error number: then nothing was sent.
int xdpguard_udp_send_return(struct xg_registers *ctx)
{
	u64 thread = current_ids();
	struct xg_call *call = map_lookup(MAP(XG_MAP_CALLS), &thread);
	if (!call)
		return 0; // told by udp_sendmsg, called by udpv6_sendmsg
	s32 result = ARGUMENT(ctx, RESULT);
	u64 sk = call->sock;
	struct datagram one = {.peer = call->peer, .bytes = (u32)result, .kind = XG_EV_UDP_SEND};
	map_delete(MAP(XG_MAP_CALLS), &thread);
	if (result >= 0 && is_udp(sk))
		account(sk, &one);
	return 0;
}

// Both ends as the packet says them.
static __always_inline void read_packet(struct datagram *one, u64 skb)
{
	u64 head = FIELD(skb, u64, SKB_HEAD);
	u64 network = head + FIELD(skb, u16, SKB_NETWORK), transport = head + FIELD(skb, u16, SKB_TRANSPORT);
	one->peer.port = swap16(read_field(transport, 0, 2));
	if (read_field(network, 0, 1) >> 4 == 6) {
		one->peer.family = one->local.family = AF_INET6;
		read_kernel(one->peer.address, 16, network + 8);
		read_kernel(one->local.address, 16, network + 24);
	} else {
		one->peer.family = one->local.family = AF_INET;
		*(u32 *)one->peer.address = read_field(network, 12, 4);
		*(u32 *)one->local.address = read_field(network, 16, 4);
	}
	one->device = FIELD(skb, u32, SKB_IIF);
}

// void skb_consume_udp(struct sock *, struct sk_buff *, int): the bytes that were copied, negative after a peek.
int xdpguard_udp_received(struct xg_registers *ctx)
{
	u64 sk = ARGUMENT(ctx, FIRST);
	s32 bytes = ARGUMENT(ctx, THIRD);
	struct datagram one = {.bytes = (u32)bytes, .kind = XG_EV_UDP_RECV};
	if (bytes < 0 || !is_udp(sk))
		return 0;
	read_packet(&one, ARGUMENT(ctx, SECOND));
	account(sk, &one);
	return 0;
}
