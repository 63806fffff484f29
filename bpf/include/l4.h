// The fourth layer: TCP, UDP, ICMP, ICMPv6, SCTP. Included by parse.h.
#ifndef XDPGUARD_L4_H
#define XDPGUARD_L4_H

#include "pkt.h"

static __always_inline u32 protocol_counted(u32 number, u32 family)
{
	if (number == TCP)
		return XG_PROTO_TCP;
	if (number == UDP)
		return XG_PROTO_UDP;
	if (number == ICMP && family == 4)
		return XG_PROTO_ICMP;
	if (number == ICMPV6 && family == 6)
		return XG_PROTO_ICMPV6;
	if (number == SCTP)
		return XG_PROTO_SCTP;
	return XG_PROTO_OTHER_IP;
}

// A first fragment's L4 header must be whole (RFC 1858, RFC 7112); its payload is not.
static __always_inline u32 parse_tcp(struct frame *f, struct pkt *p, u32 at)
{
	u32 short_reason = p->first ? XG_MALFORMED_FRAGMENT : XG_MALFORMED_TCP;
	NEED(f, at, 20, p->stop, short_reason);
	u8 *tcp = f->data + at;
	u32 header = (tcp[12] >> 4) * 4;
	if (header < 20)
		return XG_MALFORMED_TCP;
	if (at + header > p->stop)
		return short_reason;
	p->sport = be16(tcp);
	p->dport = be16(tcp + 2);
	p->l4 = (p->family == 4 ? XG_L4_TCP4 : XG_L4_TCP6) + tcp[13];
	return XG_REASON_NONE;
}

static __always_inline u32 parse_udp(struct frame *f, struct pkt *p, u32 at)
{
	NEED(f, at, 8, p->stop, p->first ? XG_MALFORMED_FRAGMENT : XG_MALFORMED_UDP);
	u8 *udp = f->data + at;
	u32 length = be16(udp + 4), room = p->stop - at;
	if (length == 0 && room > 65535) // a GSO packet over 64 KiB
		length = 8;
	if (length < 8 || (!p->first && length > room))
		return XG_MALFORMED_UDP;
	p->sport = be16(udp);
	p->dport = be16(udp + 2);
	p->l4 += XG_L4_HEADER;
	u32 client = f->hook == XG_INGRESS ? p->dport : p->sport;
	u32 server = f->hook == XG_INGRESS ? p->sport : p->dport;
	p->essential = p->family == 4 ? client == 68 && server == 67 : client == 546 && server == 547;
	return XG_REASON_NONE;
}

static __always_inline u32 parse_icmp(struct frame *f, struct pkt *p, u32 at)
{
	NEED(f, at, 8, p->stop, p->first ? XG_MALFORMED_FRAGMENT : XG_MALFORMED_ICMP);
	u8 *icmp = f->data + at;
	p->sport = icmp[0];
	p->dport = icmp[1];
	p->l4 += XG_L4_HEADER;
	p->essential = icmp[0] == 3 && icmp[1] == 4; // fragmentation needed, RFC 1191
	return XG_REASON_NONE;
}

static __always_inline u32 parse_icmpv6(struct frame *f, struct pkt *p, u32 at)
{
	NEED(f, at, 4, p->stop, p->first ? XG_MALFORMED_FRAGMENT : XG_MALFORMED_ICMPV6);
	u8 *icmp = f->data + at;
	u32 type = icmp[0];
	p->sport = type;
	p->dport = icmp[1];
	p->l4 += XG_L4_HEADER;
	// Packet too big (RFC 8201); neighbour discovery, which a router never forwards (RFC 4861 7.1).
	p->essential = type == 2 || (type - 133 <= 4 && p->hop_limit == 255);
	return XG_REASON_NONE;
}

static __always_inline u32 parse_sctp(struct frame *f, struct pkt *p, u32 at)
{
	NEED(f, at, 12, p->stop, p->first ? XG_MALFORMED_FRAGMENT : XG_MALFORMED_SCTP);
	p->sport = be16(f->data + at);
	p->dport = be16(f->data + at + 2);
	p->l4 += XG_L4_HEADER;
	return XG_REASON_NONE;
}

static __always_inline u32 parse_l4(struct frame *f, struct pkt *p)
{
	u32 at = p->at & 0x7fff, number = p->number;
	if (number == TCP)
		return parse_tcp(f, p, at);
	if (number == UDP)
		return parse_udp(f, p, at);
	if (number == ICMP && p->family == 4)
		return parse_icmp(f, p, at);
	if (number == ICMPV6 && p->family == 6)
		return parse_icmpv6(f, p, at);
	if (number == SCTP)
		return parse_sctp(f, p, at);
	return XG_REASON_NONE;
}

#endif
