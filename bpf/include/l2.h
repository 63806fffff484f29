// The second layer: Ethernet and VLAN tags, or a device whose frames start at the IP header. Included by parse.h.
#ifndef XDPGUARD_L2_H
#define XDPGUARD_L2_H

#include "pkt.h"

#define ETHERTYPE_IPV4 bpf_htons(0x0800)
#define ETHERTYPE_ARP bpf_htons(0x0806)
#define ETHERTYPE_IPV6 bpf_htons(0x86dd)
#define ETHERTYPE_8021Q bpf_htons(0x8100)
#define ETHERTYPE_8021AD bpf_htons(0x88a8)
#define ETHERTYPE_QINQ bpf_htons(0x9100)

static __always_inline u32 is_tag(u32 type)
{
	return type == ETHERTYPE_8021Q || type == ETHERTYPE_8021AD || type == ETHERTYPE_QINQ;
}

// The tag at `offset`, whose ethertype was read before.
static __always_inline u32 take_tag(struct frame *f, u32 offset, u32 *type, u32 *tci)
{
	NEED(f, offset, 4, f->length, XG_MALFORMED_VLAN);
	*tci = be16(f->data + offset);
	*type = *(u16 *)(f->data + offset + 2);
	return XG_REASON_NONE;
}

// The tags in the frame. At most two, the one in metadata included; `vlan` is the outermost one's id.
static __always_inline u32 parse_tags(struct frame *f, struct pkt *p, u32 *type)
{
	u32 outer, inner, reason = take_tag(f, 14, type, &outer);
	if (reason)
		return reason;
	p->at = 18;
	if (!f->tag_present)
		p->vlan = outer & 0xfff;
	if (!is_tag(*type))
		return XG_REASON_NONE;
	reason = take_tag(f, 18, type, &inner);
	if (reason)
		return reason;
	p->at = 22;
	return f->tag_present || is_tag(*type) ? XG_MALFORMED_VLAN : XG_REASON_NONE;
}

// -> XG_REASON_NONE, a reason, or XG_NEED_MORE. `type` gets the ethertype behind the tags, `at` its payload.
static __always_inline u32 parse_ethernet(struct frame *f, struct pkt *p, u32 *type)
{
	NEED(f, 0, 14, f->length, XG_MALFORMED_ETHERNET);
	p->at = 14;
	*type = *(u16 *)(f->data + 12);
	return is_tag(*type) ? parse_tags(f, p, type) : XG_REASON_NONE;
}

static __always_inline u32 parse_l3_device(struct frame *f, struct pkt *p, u32 *type)
{
	NEED(f, 0, 1, f->length, XG_MALFORMED_ETHERNET);
	p->at = 0;
	u32 version = f->data[0] >> 4;
	*type = version == 4 ? ETHERTYPE_IPV4 : version == 6 ? ETHERTYPE_IPV6 : 0;
	return XG_REASON_NONE;
}

#endif
