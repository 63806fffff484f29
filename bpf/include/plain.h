// Most packets: TCP or UDP right behind an IP header without options or fragments, no tags, whole, in the first buffer.
// They are told by a few comparisons, where the parser's steps would each wait for what the one before has stored.
//
// What must never break: whatever is not all of that is left to the parser (parse.h), and what is taken here gets the
// values that the parser would give it.
#ifndef XDPGUARD_PLAIN_H
#define XDPGUARD_PLAIN_H

#include "l2.h"
#include "l4.h"

#define PLAIN_IPV4 0x45 // version 4, five words of header

// `l4` and 8 bytes of it can be read; `bytes`: of the IP payload. 1: taken
static __always_inline u32 parse_plain_l4(struct frame *f, struct pkt *p, u8 *l4, u32 number, u32 bytes, u32 family)
{
	u32 ports = be32(l4), sport = ports >> 16, dport = ports & 0xffff;
	if (number == TCP) {
		if (l4 + 20 > f->end)
			return 0;
		u32 header = (l4[12] >> 4) * 4;
		if (header < 20 || header > bytes)
			return 0;
		p->protocol = XG_PROTO_TCP;
		p->l4 = (family == 4 ? XG_L4_TCP4 : XG_L4_TCP6) + l4[13];
		p->essential = 0;
	} else if (number == UDP) {
		u32 length = be16(l4 + 4), client = dport, server = sport;
		if (length < 8 || length > bytes)
			return 0;
		if (f->hook == XG_EGRESS) {
			client = sport;
			server = dport;
		}
		p->protocol = XG_PROTO_UDP;
		p->l4 = XG_L4_HEADER + (family == 4 ? XG_L4_IPV4 : XG_L4_IPV6) + UDP;
		p->essential = family == 4 ? client == 68 && server == 67 : client == 546 && server == 547;
	} else {
		return 0;
	}
	p->reason = XG_REASON_NONE;
	p->family = family;
	p->vlan = XG_VLAN_NONE;
	p->sport = sport;
	p->dport = dport;
	return 1;
}

static __always_inline u32 parse_plain_ipv6(struct frame *f, struct pkt *p)
{
	u8 *ip = f->data + 14, *l4 = ip + 40;
	if (l4 + 8 > f->end || ip[0] >> 4 != 6)
		return 0;
	u32 bytes = be16(ip + 4);
	if (bytes > f->length - 54)
		return 0;
	p->src_high = be64(ip + 8);
	p->src_low = be64(ip + 16);
	p->dst_high = be64(ip + 24);
	p->dst_low = be64(ip + 32);
	return parse_plain_l4(f, p, l4, ip[6], bytes, 6);
}

// 1: taken
static __always_inline u32 parse_plain(struct frame *f, struct pkt *p)
{
	u8 *ip = f->data + 14, *l4 = ip + 20;
	if (l4 + 8 > f->end || f->l3_device || f->tag_present)
		return 0;
	u32 type = *(u16 *)(ip - 2), total = be16(ip + 2);
	if (type == ETHERTYPE_IPV6)
		return parse_plain_ipv6(f, p);
	if (type != ETHERTYPE_IPV4 || ip[0] != PLAIN_IPV4 || *(u16 *)(ip + 6) & bpf_htons(0x3fff))
		return 0;
	if (total < 20 || total > f->length - 14)
		return 0;
	p->src_low = be32(ip + 12);
	p->dst_low = be32(ip + 16);
	return parse_plain_l4(f, p, l4, ip[9], total - 20, 4);
}

#endif
