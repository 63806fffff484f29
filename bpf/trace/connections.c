// The life of TCP connections: one program for each probe of xdpguard/kernel/sources.py.
//
// Every change of state is told by the raw tracepoint inet_sock_set_state. That to SYN_SENT and to LISTEN happens in
// the context of the process that asked for it, and so do the first steps of a close; others mostly in a softirq.
#include "connection.h"

// The new states that say something.
#define TOLD \
	(1 << SYN_SENT | 1 << SYN_RECV | 1 << LISTEN | 1 << ESTABLISHED | 1 << FIN_WAIT1 | 1 << LAST_ACK | 1 << CLOSE)

static __always_inline void established(u64 sk, u32 old, struct xg_socket *socket)
{
	if (old == SYN_SENT || (socket && !socket->incoming)) {
		if (socket) {
			if (socket->opened)
				socket->handshake_ns = boot_time() - socket->opened;
			socket->stage = XG_STAGE_OPEN;
			socket->ifindex = device_of(sk);
			keep_owner(sk, &socket->owner, 0);
		}
		report(XG_EV_CONNECT, sk, socket, 0, 0);
		return;
	}
	if (!socket)
		socket = arrived(sk);
	if (!socket)
		return;
	if (socket->stage == XG_STAGE_ARRIVED)
		keep_owner(sk, &socket->owner, 0); // nobody: a former connection with these ends is no more
	// The first sample is that of our SYN-ACK, sent when the SYN came.
	socket->handshake_ns = (u64)(FIELD(sk, u32, TCP_SRTT) >> 3) * 1000;
}

static __always_inline void closed(u64 sk, u32 old, struct xg_socket *socket)
{
	// What fails inside connect() is told by its kretprobe, which knows the reason.
	if (socket && socket->stage == XG_STAGE_ASKED && socket->owner.tid == (u32)current_ids())
		return;
	// Of a handshake that was not over only what both ends began, or was accepted before, is known.
	u32 asked = old == SYN_SENT || (old == SYN_RECV && socket && !socket->incoming);
	u32 ended = old != LISTEN && old != CLOSE && (old != SYN_RECV || socket);
	if (asked)
		report(XG_EV_CONNECT_FAILED, sk, socket, 0, FIELD(sk, u32, SOCK_ERR));
	else if (ended)
		report(XG_EV_CLOSE, sk, socket, 0, 0);
	if (old != LISTEN)
		drop_owner(sk, 0);
	else if (socket)
		drop_owner(sk, &socket->owner);
	forget(sk);
}

int xdpguard_tcp_state(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[XG_ARG_INET_SOCK_SET_STATE_SK];
	u32 old = ctx->args[XG_ARG_INET_SOCK_SET_STATE_OLDSTATE];
	u32 new = ctx->args[XG_ARG_INET_SOCK_SET_STATE_NEWSTATE];
	if (!(TOLD >> new & 1) || FIELD(sk, u16, SOCK_PROTOCOL) != TCP)
		return 0;
	struct xg_socket *socket = known(sk);
	if (new == SYN_SENT) {
		if (!socket || socket->stage != XG_STAGE_ASKED)
			socket = begin(sk, XG_STAGE_CONNECTING, XG_BY_EXACT);
		if (socket && !socket->opened)
			socket->opened = boot_time();
	} else if (new == SYN_RECV) {
		// A new socket that nobody can accept yet. What is known of its address is left of an older one,
		// whose end and accept() came at once.
		if (old == LISTEN)
			forget(sk);
	} else if (new == LISTEN) {
		socket = begin(sk, XG_STAGE_LISTENING, XG_BY_EXACT);
		report(XG_EV_LISTEN, sk, socket, 0, 0);
		if (socket)
			keep_owner(sk, &socket->owner, 1);
	} else if (new == ESTABLISHED) {
		established(sk, old, socket);
	} else if (new == FIN_WAIT1 || new == LAST_ACK) {
		used(sk, socket);
	} else if (new == CLOSE) {
		closed(sk, old, socket);
	}
	return 0;
}

// Its argument `err` is new in Linux 6.15: before, only what was sent was told.
int xdpguard_tcp_retransmit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[XG_ARG_TCP_RETRANSMIT_SKB_SK];
#ifdef XG_ARG_TCP_RETRANSMIT_SKB_ERR
	if ((s32)ctx->args[XG_ARG_TCP_RETRANSMIT_SKB_ERR])
		return 0;
#endif
	report(XG_EV_RETRANSMIT, sk, known(sk), 0, 0);
	return 0;
}
