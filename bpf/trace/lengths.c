// UDP without kprobes: the raw tracepoints sock_send_length and sock_recv_length (Linux 6.3) tell of what was sent and
// received, in the process's context, but not of the peer of a socket that is not connected. Its name is in the
// user's memory: given to a system call that sends, filled in by the end of one that receives.
#include "flow.h"

#define MSG_PEEK 2
#define MESSAGE_BYTES 64 // sizeof(struct mmsghdr), which begins with a struct msghdr, which begins with the name

static __always_inline void read_name(struct xg_peer *peer, struct xg_call *call)
{
	u64 address = call->address;
	if (call->messages && read_user(&address, 8, call->messages))
		return;
	if (address)
		named_peer(peer, address, 1);
}

#ifdef XG_ARG_SOCK_SEND_LENGTH_SK
int xdpguard_udp_sent(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[XG_ARG_SOCK_SEND_LENGTH_SK], thread = current_ids();
	s32 result = ctx->args[XG_ARG_SOCK_SEND_LENGTH_RET];
	struct datagram one = {.bytes = (u32)result, .kind = XG_EV_UDP_SEND};
	if (!is_udp(sk))
		return 0;
	struct xg_call *call = map_lookup(MAP(XG_MAP_CALLS), &thread);
	if (call && call->sock == sk) {
		read_name(&one.peer, call);
		call->messages += MESSAGE_BYTES;
		if (result < 0 || --call->left == 0)
			map_delete(MAP(XG_MAP_CALLS), &thread);
	}
	if (result < 0)
		return 0;
	if (!one.peer.family)
		connected_peer(&one.peer, sk);
	account(sk, &one);
	return 0;
}

static __always_inline void account_pending(struct xg_call *call)
{
	struct datagram one = {.bytes = call->bytes, .kind = XG_EV_UDP_RECV};
	u64 sk = call->sock;
	if (!call->pending)
		return;
	read_name(&one.peer, call);
	if (!one.peer.family)
		connected_peer(&one.peer, sk);
	account(sk, &one);
}

int xdpguard_udp_got(struct bpf_raw_tracepoint_args *ctx)
{
	u64 sk = ctx->args[XG_ARG_SOCK_RECV_LENGTH_SK], thread = current_ids();
	s32 result = ctx->args[XG_ARG_SOCK_RECV_LENGTH_RET];
	struct datagram one = {.bytes = (u32)result, .kind = XG_EV_UDP_RECV};
	if (result <= 0 || ctx->args[XG_ARG_SOCK_RECV_LENGTH_FLAGS] & MSG_PEEK || !is_udp(sk))
		return 0;
	connected_peer(&one.peer, sk);
	struct xg_call *call = map_lookup(MAP(XG_MAP_CALLS), &thread);
	if (one.peer.port || !call || call->sock != sk) {
		account(sk, &one);
		return 0;
	}
	if (call->pending) { // of recvmmsg: the name of the one before is there by now
		account_pending(call);
		call->messages += MESSAGE_BYTES;
	}
	call->bytes = result;
	call->pending = 1;
	return 0;
}
#endif

#ifdef XG_AT_FD
// Arguments of system calls are 8 bytes each.
#define ARGUMENT_OF(ctx, index) (*(u64 *)((ctx) + XG_AT_FD + 8 * (index)))

static __always_inline void entered(u64 fd, u64 address, u64 messages, u32 left)
{
	u64 thread = current_ids(), sk = address || messages ? socket_of(fd) : 0;
	struct xg_call call = {.sock = sk, .address = address, .messages = messages, .left = left};
	if (sk && is_udp(sk))
		map_update(MAP(XG_MAP_CALLS), &thread, &call, UPDATE_ANY);
}

// sendto(fd, data, length, flags, name, ...) and recvfrom
int xdpguard_named_call(void *ctx)
{
	entered(ARGUMENT_OF(ctx, 0), ARGUMENT_OF(ctx, 4), 0, 1);
	return 0;
}

// sendmsg(fd, message, flags) and recvmsg
int xdpguard_message_call(void *ctx)
{
	entered(ARGUMENT_OF(ctx, 0), 0, ARGUMENT_OF(ctx, 1), 1);
	return 0;
}

// sendmmsg(fd, messages, number, flags) and recvmmsg
int xdpguard_messages_call(void *ctx)
{
	entered(ARGUMENT_OF(ctx, 0), 0, ARGUMENT_OF(ctx, 1), ARGUMENT_OF(ctx, 2));
	return 0;
}

// The end of recvfrom, recvmsg and recvmmsg
int xdpguard_receive_exit(void *ctx)
{
	u64 thread = current_ids();
	struct xg_call *call = map_lookup(MAP(XG_MAP_CALLS), &thread);
	if (!call)
		return 0;
	account_pending(call);
	map_delete(MAP(XG_MAP_CALLS), &thread);
	return 0;
}
#endif
