// What processes do with TCP sockets, in their own context: connect, accept, use. One program for each probe of
// xdpguard/kernel/sources.py.
#include "connection.h"

static __always_inline void accepted(u64 sk)
{
	if (FIELD(sk, u16, SOCK_PROTOCOL) != TCP)
		return;
	struct xg_socket *socket = known(sk);
	if (!socket || socket->stage != XG_STAGE_OPEN)
		taken(sk, socket, XG_BY_EXACT);
}

// What this thread has accepted last, beside the call of the same map: a connection that is reset meanwhile is
// forgotten, and the second probe of one accept() must not tell of it again.
#define ACCEPTED (1ull << 63)

#ifdef XG_REGISTER_FIRST
// int tcp_v4_connect(struct sock *, struct sockaddr *, int), and v6, which calls v4 for a v4-mapped address. The
// name was copied into the kernel before.
int xdpguard_tcp_connect(struct xg_registers *ctx)
{
	u64 sk = ARGUMENT(ctx, FIRST), thread = current_ids();
	struct xg_call call = {.sock = sk};
	named_peer(&call.peer, ARGUMENT(ctx, SECOND), 0);
	struct xg_socket *socket = begin(sk, XG_STAGE_ASKED, XG_BY_EXACT);
	if (socket)
		socket->opened = boot_time();
	map_update(MAP(XG_MAP_CALLS), &thread, &call, UPDATE_ANY);
	return 0;
}

int xdpguard_tcp_connect_return(struct xg_registers *ctx)
{
	u64 thread = current_ids();
	struct xg_call *call = map_lookup(MAP(XG_MAP_CALLS), &thread);
	if (!call)
		return 0; // told by the inner one already
	s32 result = ARGUMENT(ctx, RESULT);
	u64 sk = call->sock;
	struct xg_peer peer = call->peer;
	map_delete(MAP(XG_MAP_CALLS), &thread);
	struct xg_socket *socket = known(sk);
	if (!socket || socket->stage != XG_STAGE_ASKED)
		return 0;
	if (!result) {
		socket->stage = XG_STAGE_CONNECTING;
		return 0;
	}
	report(XG_EV_CONNECT_FAILED, sk, socket, &peer, -result);
	forget(sk);
	return 0;
}

// struct sock *inet_csk_accept(...): NULL if it failed.
int xdpguard_accept_return(struct xg_registers *ctx)
{
	u64 sk = ARGUMENT(ctx, RESULT), thread = current_ids() | ACCEPTED;
	struct xg_call call = {.sock = sk};
	if (!sk)
		return 0;
	accepted(sk);
	map_update(MAP(XG_MAP_CALLS), &thread, &call, UPDATE_ANY);
	return 0;
}

// tcp_sendmsg, tcp_recvmsg and tcp_close, whose first argument is the socket.
int xdpguard_tcp_used(struct xg_registers *ctx)
{
	u64 sk = ARGUMENT(ctx, FIRST);
	if (FIELD(sk, u16, SOCK_PROTOCOL) == TCP)
		used(sk, known(sk));
	return 0;
}

int xdpguard_tcp_retransmitted(struct xg_registers *ctx)
{
	u64 sk = ARGUMENT(ctx, FIRST);
	report(XG_EV_RETRANSMIT, sk, known(sk), 0, 0);
	return 0;
}
#endif

#ifdef XG_AT_RET
// The tracepoint at the exit of accept() and accept4(): from the new file's number to its socket. The context is
// laid out as the tracepoint's format says.
int xdpguard_accept_exit(void *ctx)
{
	s64 fd = *(s64 *)(ctx + XG_AT_RET);
	if (fd < 0)
		return 0;
	u64 sk = socket_of(fd), thread = current_ids() | ACCEPTED;
	struct xg_call *call = map_lookup(MAP(XG_MAP_CALLS), &thread);
	u64 told = call ? call->sock : 0;
	if (told)
		map_delete(MAP(XG_MAP_CALLS), &thread);
	if (sk && sk != told)
		accepted(sk);
	return 0;
}
#endif

#ifdef XG_ARG_SOCK_SEND_LENGTH_SK
// sock_send_length and sock_recv_length tell of every kind of socket.
int xdpguard_tcp_length(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[XG_ARG_SOCK_SEND_LENGTH_SK];
	u16 family = FIELD(sk, u16, SOCK_FAMILY);
	if ((family == AF_INET || family == AF_INET6) && FIELD(sk, u16, SOCK_PROTOCOL) == TCP)
		used(sk, known(sk));
	return 0;
}
#endif
