// Bytes -> struct pkt, or the named reason why not. The one parser of both hooks.
//
// What must never break: a field that could not be read is never equal to anything. A later fragment has no
// ports, whatever its bytes look like; the reserved byte of a fragment header is never a length (RFC 8200 4.5);
// a header is read only where the IP lengths say that it lies.
#ifndef XDPGUARD_PARSE_H
#define XDPGUARD_PARSE_H

#include "l2.h"
#include "l4.h"

static __always_inline u32 parse_ipv4(struct frame *f, u32 offset, struct pkt *p)
{
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
	p->protocol = protocol_counted(number, 4);
	p->src_low = be32(ip + 12);
	p->dst_low = be32(ip + 16);
	p->l4 = XG_L4_IPV4 + number;
	u32 start = (fragment & 0x1fff) * 8, first = 0;
	if (fragment & 0x3fff) { // MF or an offset
		if (f->drop_fragments)
			return XG_FRAGMENT;
		if (start + total - header > 65535)
			return XG_MALFORMED_FRAGMENT;
		if (start) // RFC 3128: the data of a later fragment must not start inside the TCP header
			return number == TCP && start < 20 ? XG_MALFORMED_FRAGMENT : XG_REASON_NONE;
		first = 1;
	}
	struct cursor at = {(offset + header) & 0x7f, offset + total};
	return parse_l4(f, at, p, number, first, 0);
}

// The IPv6 header chain (RFC 8200 4), as far as it was walked.
struct chain {
	u64 at, stop;      // the next header, the end of the payload
	u64 number;        // its protocol number
	u64 seen_fragment; // a fragment header was there
	u64 first;         // of a packet in several fragments this is the first one
};

#define XG_GO_ON 254 // not a reason: read the next header

static __always_inline u32 is_extension(u64 number)
{
	return number == HOPOPTS || number == ROUTING || number == FRAGMENT || number == AH || number == DSTOPTS;
}

// A chain that ends too early. A first fragment must hold all of it (RFC 7112).
static __always_inline u32 cut_reason(struct chain *c)
{
	return c->first ? XG_MALFORMED_FRAGMENT : XG_MALFORMED_IPV6_EXTENSION;
}

static __always_inline u32 parse_fragment_header(struct frame *f, u8 *header, struct chain *c, struct pkt *p)
{
	u32 field = be16(header + 2), start = field & 0xfff8, more = field & 1;
	u64 next = header[0], bytes = c->stop - c->at - 8;
	c->seen_fragment = 1;
	if (!start && !more) // atomic: a whole packet (RFC 6946)
		return XG_GO_ON;
	p->protocol = protocol_counted(next, 6);
	HIDE(p->protocol, f->zero);
	if (f->drop_fragments)
		return XG_FRAGMENT;
	if (start + bytes > 65535 || (more && (bytes & 7)) || (start && next == TCP && start < 20))
		return XG_MALFORMED_FRAGMENT;
	if (start) {
		p->l4 = XG_L4_IPV6 + next;
		return XG_REASON_NONE;
	}
	p->protocol = XG_PROTO_OTHER_IP; // until the upper-layer header is found
	c->first = 1;
	return XG_GO_ON;
}

static __always_inline u32 parse_extension(struct frame *f, struct chain *c, struct pkt *p, int depth)
{
	if (depth == XG_MAX_EXT_HEADERS || (c->number == HOPOPTS && depth))
		return XG_MALFORMED_IPV6_EXTENSION;
	if (c->number == FRAGMENT && c->seen_fragment)
		return XG_MALFORMED_FRAGMENT;
	NEED(f, c->at, 8, c->stop, cut_reason(c));
	u8 *header = f->data + c->at;
	u64 length = (header[1] + 1) * 8;
	if (c->number == AH)
		length = (header[1] + 2) * 4;
	if (c->number == FRAGMENT) {
		length = 8; // whatever the reserved byte says
		u32 reason = parse_fragment_header(f, header, c, p);
		if (reason != XG_GO_ON)
			return reason;
	}
	if (c->at + length > c->stop)
		return cut_reason(c);
	c->number = header[0];
	c->at = c->at + length;
	HIDE(c->first, f->zero);
	HIDE(c->seen_fragment, f->zero);
	HIDE(c->at, f->zero);
	c->at &= 0x7fff; // 8 headers of 2,048 bytes fit
	return XG_GO_ON;
}

static __always_inline u32 parse_ipv6(struct frame *f, u32 offset, struct pkt *p)
{
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
	u32 hop_limit = ip[7];
	struct chain c = {.at = offset + 40, .stop = offset + 40 + payload, .number = ip[6]};
	for (int depth = 0; depth <= XG_MAX_EXT_HEADERS && is_extension(c.number); depth++) {
		u32 reason = parse_extension(f, &c, p, depth);
		if (reason != XG_GO_ON)
			return reason;
	}
	p->protocol = protocol_counted(c.number, 6);
	p->l4 = XG_L4_IPV6 + c.number;
	struct cursor at = {c.at, c.stop};
	return parse_l4(f, at, p, c.number, c.first, hop_limit);
}

static __always_inline u32 parse_arp(struct frame *f, u32 offset, struct pkt *p)
{
	p->protocol = XG_PROTO_ARP;
	p->essential = 1;
	p->l4 = XG_L4_ARP;
	NEED(f, offset, 8, f->length, XG_MALFORMED_ARP);
	u8 *arp = f->data + offset;
	return offset + 8 + 2 * (arp[4] + arp[5]) > f->length ? XG_MALFORMED_ARP : XG_REASON_NONE;
}

static __always_inline u32 parse_frame(struct frame *f, struct pkt *p)
{
	u32 type = 0, offset = 0, reason;
	p->protocol = XG_PROTO_NON_IP;
	p->family = 0;
	p->essential = 0;
	p->l4 = 0;
	p->sport = p->dport = 0;
	p->src_high = p->src_low = p->dst_high = p->dst_low = 0;
	if (f->l3_device)
		reason = parse_l3_device(f, p, &type);
	else
		reason = parse_ethernet(f, p, &type, &offset);
	if (reason)
		return reason;
	if (type == ETHERTYPE_IPV4)
		return parse_ipv4(f, offset, p);
	if (type == ETHERTYPE_IPV6)
		return parse_ipv6(f, offset, p);
	if (type == ETHERTYPE_ARP)
		return parse_arp(f, offset, p);
	return XG_REASON_NONE;
}

static __always_inline u32 parse(struct frame *f, struct pkt *p)
{
	u64 reason = parse_frame(f, p);
	HIDE(p->protocol, f->zero);
	HIDE(p->family, f->zero);
	HIDE(p->essential, f->zero);
	HIDE(p->l4, f->zero);
	HIDE(p->sport, f->zero);
	HIDE(p->dport, f->zero);
	HIDE(p->vlan, f->zero);
	HIDE(p->src_high, f->zero);
	HIDE(p->src_low, f->zero);
	HIDE(p->dst_high, f->zero);
	HIDE(p->dst_low, f->zero);
	HIDE(reason, f->zero);
	return reason;
}

#endif
