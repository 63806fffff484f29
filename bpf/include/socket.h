// What a socket says of itself: its ends, its network namespace, its device. Sockets are addresses in the kernel.
#ifndef XDPGUARD_SOCKET_H
#define XDPGUARD_SOCKET_H

#include "kernel.h"

#define AF_INET 2
#define AF_INET6 10
enum { TCP = 6, UDP = 17 };

static __always_inline int is_zero(const u8 *address)
{
	const u32 *words = (const u32 *)address;
	return !(words[0] | words[1] | words[2] | words[3]);
}

static __always_inline int is_mapped(const u8 *address)
{
	const u32 *words = (const u32 *)address;
	return !words[0] && !words[1] && words[2] == 0xffff0000; // ::ffff:0:0/96 in network order
}

static __always_inline void unmap(u8 *address)
{
	u32 *words = (u32 *)address;
	words[0] = words[3];
	words[2] = words[3] = 0;
}

static __always_inline void unmap_peer(struct xg_peer *peer)
{
	if (peer->family != AF_INET6 || !is_mapped(peer->address))
		return;
	unmap(peer->address);
	peer->family = AF_INET;
}

static __always_inline u32 netns_of(u64 sk)
{
	return read_field(FIELD(sk, u64, SOCK_NET), NUMBER(XG_NUMBER_NET_INODE), 4);
}

// The socket behind a file of the current process. 0: it is none, or of no family of ours.
static __always_inline u64 socket_of(u64 fd)
{
	u64 table = FIELD(FIELD(current_task(), u64, TASK_FILES), u64, FILES_TABLE);
	u64 file = read_field(FIELD(table, u64, TABLE_FD), fd * 8, 8);
	u64 socket = FIELD(file, u64, FILE_PRIVATE);
	u64 sk = FIELD(socket, u64, SOCKET_SOCK);
	u16 family = FIELD(sk, u16, SOCK_FAMILY);
	if (FIELD(sk, u64, SOCK_SOCKET) != socket || (family != AF_INET && family != AF_INET6))
		return 0;
	return sk;
}

// The device that the socket is bound to, else that of its route.
static __always_inline u32 device_of(u64 sk)
{
	u32 bound = FIELD(sk, u32, SOCK_BOUND);
	if (bound)
		return bound;
	u64 route = FIELD(sk, u64, SOCK_DST) & ~1ull; // the lowest bit may be a mark
	return route ? FIELD(FIELD(route, u64, DST_DEV), u32, DEVICE_IFINDEX) : 0;
}

// Who a socket is connected to: a family alone where it is not. v4-mapped is IPv4 from here on.
static __always_inline void connected_peer(struct xg_peer *peer, u64 sk)
{
	peer->family = FIELD(sk, u16, SOCK_FAMILY);
	peer->port = swap16(FIELD(sk, u16, SOCK_DPORT));
	if (peer->family == AF_INET6)
		read_kernel(peer->address, 16, sk + NUMBER(XG_NUMBER_SOCK_V6_DADDR));
	else
		*(u32 *)peer->address = FIELD(sk, u32, SOCK_DADDR);
	unmap_peer(peer);
}

// A sockaddr in the kernel's memory or a user's; a family that is none of ours gives none.
static __always_inline void named_peer(struct xg_peer *peer, u64 address, int in_user)
{
	u8 name[24] = {};
	if (in_user ? read_user(name, 24, address) && read_user(name, 16, address) : read_kernel(name, 24, address))
		return;
	u16 family = *(u16 *)name;
	if (family != AF_INET && family != AF_INET6)
		return;
	peer->family = family;
	peer->port = swap16(*(u16 *)(name + 2));
	if (family == AF_INET6)
		__builtin_memcpy(peer->address, name + 8, 16);
	else
		*(u32 *)peer->address = *(u32 *)(name + 4);
	unmap_peer(peer);
}

// A socket of both families speaks IPv4 with an IPv4 peer; without a peer its own address says what it speaks.
static __always_inline void fill_tuple(struct xg_tuple *tuple, u64 sk, struct xg_peer *peer)
{
	__builtin_memset(tuple, 0, sizeof(*tuple));
	tuple->netns = netns_of(sk);
	tuple->protocol = FIELD(sk, u16, SOCK_PROTOCOL);
	tuple->local_port = FIELD(sk, u16, SOCK_NUM);
	if (!tuple->local_port) // at its end a socket has given it back
		tuple->local_port = swap16(FIELD(sk, u16, INET_SPORT));
	tuple->remote_port = peer->port;
	tuple->family = peer->family;
	__builtin_memcpy(tuple->remote, peer->address, 16);
	if (FIELD(sk, u16, SOCK_FAMILY) == AF_INET6)
		read_kernel(tuple->local, 16, sk + NUMBER(XG_NUMBER_SOCK_V6_RCV_SADDR));
	else
		*(u32 *)tuple->local = FIELD(sk, u32, SOCK_RCV_SADDR);
	if (is_mapped(tuple->local)) {
		unmap(tuple->local);
		tuple->family = AF_INET;
	}
}

#endif
