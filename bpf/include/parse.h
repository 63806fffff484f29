// Bytes -> struct pkt, or the named reason why not. The one parser of both hooks.
//
// What must never break: a field that could not be read is never equal to anything. A later fragment has no
// ports, whatever its bytes look like; the reserved byte of a fragment header is never a length (RFC 8200 4.5);
// a header is read only where the IP lengths say that it lies.
#ifndef XDPGUARD_PARSE_H
#define XDPGUARD_PARSE_H

#include "plain.h"

#define XG_GO_ON 254 // not a reason: read the next header

static __always_inline u32 parse_ipv4_fragment(struct frame *f, struct pkt *p, u32 field, u32 bytes)
{
	u32 start = (field & 0x1fff) * 8;
	if (f->drop_fragments)
		return XG_FRAGMENT;
	if (start + bytes > 65535)
		return XG_MALFORMED_FRAGMENT;
	if (start) // RFC 3128: the data of a later fragment must not start inside the TCP header
		return p->number == TCP && start < 20 ? XG_MALFORMED_FRAGMENT : XG_REASON_NONE;
	p->first = 1;
	return XG_GO_ON;
}

static __always_inline u32 parse_ipv4(struct frame *f, struct pkt *p)
{
	u32 offset = p->at & 0x1f;
	p->protocol = XG_PROTO_OTHER_IP;
	NEED(f, offset, 20, f->length, XG_MALFORMED_IPV4_HEADER);
	u8 *ip = f->data + offset;
	u32 room = f->length - offset, header = (ip[0] & 15) * 4, total = be16(ip + 2);
	if ((ip[0] >> 4) != 4 || header < 20 || header > room)
		return XG_MALFORMED_IPV4_HEADER;
	if (total == 0 && room > 65535) // a GSO packet over 64 KiB ("BIG TCP")
		total = room;
	if (total < header || total > room)
		return XG_MALFORMED_IPV4_LENGTH;
	u32 fragment = be16(ip + 6), number = ip[9];
	p->family = 4;
	p->number = number;
	p->protocol = protocol_counted(number, 4);
	p->src_low = be32(ip + 12);
	p->dst_low = be32(ip + 16);
	p->l4 = XG_L4_IPV4 + number;
	p->at = offset + header;
	p->stop = offset + total;
	// MF or an offset
	return fragment & 0x3fff ? parse_ipv4_fragment(f, p, fragment, total - header) : XG_GO_ON;
}

static __always_inline u32 is_extension(u32 number)
{
	return number == HOPOPTS || number == ROUTING || number == FRAGMENT || number == AH || number == DSTOPTS;
}

// A chain that ends too early. A first fragment must hold all of it (RFC 7112).
static __always_inline u32 cut_reason(struct pkt *p)
{
	return p->first ? XG_MALFORMED_FRAGMENT : XG_MALFORMED_IPV6_EXTENSION;
}

static __always_inline u32 parse_fragment_header(struct frame *f, u8 *header, struct pkt *p)
{
	u32 field = be16(header + 2), start = field & 0xfff8, more = field & 1;
	u32 next = header[0], bytes = p->stop - p->at - 8;
	p->seen_fragment = 1;
	if (!start && !more) // atomic: a whole packet (RFC 6946)
		return XG_GO_ON;
	p->protocol = protocol_counted(next, 6);
	if (f->drop_fragments)
		return XG_FRAGMENT;
	if (start + bytes > 65535 || (more && (bytes & 7)) || (start && next == TCP && start < 20))
		return XG_MALFORMED_FRAGMENT;
	if (start) {
		p->l4 = XG_L4_IPV6 + next;
		return XG_REASON_NONE;
	}
	p->protocol = XG_PROTO_OTHER_IP; // until the upper-layer header is found
	p->first = 1;
	return XG_GO_ON;
}

static __always_inline u32 parse_extension(struct frame *f, struct pkt *p, int depth)
{
	u32 number = p->number, at = p->at & 0x7fff; // 8 headers of 2,048 bytes fit
	if (depth == XG_MAX_EXT_HEADERS || (number == HOPOPTS && depth))
		return XG_MALFORMED_IPV6_EXTENSION;
	if (number == FRAGMENT && p->seen_fragment)
		return XG_MALFORMED_FRAGMENT;
	NEED(f, at, 8, p->stop, cut_reason(p));
	u8 *header = f->data + at;
	u32 length = (header[1] + 1) * 8;
	if (number == AH)
		length = (header[1] + 2) * 4;
	if (number == FRAGMENT) {
		length = 8; // whatever the reserved byte says
		u32 reason = parse_fragment_header(f, header, p);
		if (reason != XG_GO_ON)
			return reason;
	}
	if (at + length > p->stop)
		return cut_reason(p);
	p->number = header[0];
	p->at = at + length;
	FORGET;
	return XG_GO_ON;
}

static __always_inline u32 parse_ipv6(struct frame *f, struct pkt *p)
{
	u32 offset = p->at & 0x1f;
	p->protocol = XG_PROTO_OTHER_IP;
	NEED(f, offset, 40, f->length, XG_MALFORMED_IPV6_HEADER);
	u8 *ip = f->data + offset;
	u32 room = f->length - offset - 40, payload = be16(ip + 4);
	if ((ip[0] >> 4) != 6)
		return XG_MALFORMED_IPV6_HEADER;
	if (payload == 0 && room > 65535) // a GSO packet over 64 KiB ("BIG TCP")
		payload = room;
	if (payload > room)
		return XG_MALFORMED_IPV6_LENGTH;
	p->family = 6;
	p->src_high = be64(ip + 8);
	p->src_low = be64(ip + 16);
	p->dst_high = be64(ip + 24);
	p->dst_low = be64(ip + 32);
	p->hop_limit = ip[7];
	p->seen_fragment = 0;
	p->number = ip[6];
	p->at = offset + 40;
	p->stop = offset + 40 + payload;
	FORGET;
	for (int depth = 0; depth <= XG_MAX_EXT_HEADERS && is_extension(p->number); depth++) {
		u32 reason = parse_extension(f, p, depth);
		if (reason != XG_GO_ON)
			return reason;
	}
	p->protocol = protocol_counted(p->number, 6);
	p->l4 = XG_L4_IPV6 + p->number;
	return XG_GO_ON;
}

// Whether all headers that the parser reads can be read: those of plain IPv4 and IPv6 packets.
static __always_inline int headers_are_in(struct frame *f)
{
	u8 *ip = f->data + (f->l3_device ? 0 : 14);
	if (ip + 20 > f->end)
		return 0;
	u32 type = f->l3_device ? 0 : *(u16 *)(ip - 2), version = ip[0] >> 4;
	if (type == ETHERTYPE_IPV4 || (f->l3_device && version == 4))
		return ip + (ip[0] & 15) * 4 + 20 <= f->end; // of TCP, the longest, 20 bytes are read
	if (type == ETHERTYPE_IPV6 || (f->l3_device && version == 6))
		return !is_extension(ip[6]) && ip + 60 <= f->end;
	return 0;
}

static __always_inline u32 parse_arp(struct frame *f, struct pkt *p)
{
	u32 offset = p->at & 0x1f;
	p->protocol = XG_PROTO_ARP;
	p->essential = 1;
	p->l4 = XG_L4_ARP;
	NEED(f, offset, 8, f->length, XG_MALFORMED_ARP);
	u8 *arp = f->data + offset;
	return offset + 8 + 2 * (arp[4] + arp[5]) > f->length ? XG_MALFORMED_ARP : XG_REASON_NONE;
}

static __always_inline u32 parse_frame(struct frame *f, struct pkt *p)
{
	u32 type = 0, reason;
	p->protocol = XG_PROTO_NON_IP;
	p->family = p->essential = p->first = 0;
	p->l4 = p->sport = p->dport = 0;
	p->vlan = f->tag_present ? f->tag & 0xfff : XG_VLAN_NONE;
	reason = f->l3_device ? parse_l3_device(f, p, &type) : parse_ethernet(f, p, &type);
	if (reason)
		return reason;
	FORGET;
	if (type == ETHERTYPE_IPV4)
		reason = parse_ipv4(f, p);
	else if (type == ETHERTYPE_IPV6)
		reason = parse_ipv6(f, p);
	else if (type == ETHERTYPE_ARP)
		reason = parse_arp(f, p);
	if (reason != XG_GO_ON)
		return reason;
	FORGET;
	return parse_l4(f, p);
}

static __always_inline void parse(struct frame *f, struct pkt *p)
{
	p->reason = parse_frame(f, p);
	FORGET;
}

#endif
