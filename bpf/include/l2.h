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

static __always_inline u32 take_tag(struct frame *f, u64 *at, u32 *type, u64 *tci)
{
	NEED(f, *at, 4, f->length, XG_MALFORMED_VLAN);
	*tci = be16(f->data + *at);
	*type = *(u16 *)(f->data + *at + 2);
	*at += 4;
	return XG_REASON_NONE;
}

// -> XG_REASON_NONE, a reason, or XG_NEED_MORE. `type` gets the ethertype behind the tags, `offset` its payload.
// At most two tags, the one in metadata included; `vlan` is the outermost one's id.
static __always_inline u32 parse_ethernet(struct frame *f, struct pkt *p, u32 *type, u32 *offset)
{
	u64 at = 14, outer = XG_VLAN_NONE, inner, reason;
	NEED(f, 0, 14, f->length, XG_MALFORMED_ETHERNET);
	*type = *(u16 *)(f->data + 12);
	if (is_tag(*type)) {
		reason = take_tag(f, &at, type, &outer);
		if (reason)
			return reason;
		outer &= 0xfff;
		if (is_tag(*type)) {
			reason = take_tag(f, &at, type, &inner);
			if (reason)
				return reason;
			if (f->tag_present || is_tag(*type))
				return XG_MALFORMED_VLAN;
		}
	}
	if (f->tag_present)
		outer = f->tag & 0xfff;
	HIDE(outer, f->zero);
	HIDE(at, f->zero);
	p->vlan = outer;
	*offset = at & 0x1f; // at most 22
	return XG_REASON_NONE;
}

static __always_inline u32 parse_l3_device(struct frame *f, struct pkt *p, u32 *type)
{
	p->vlan = f->tag_present ? f->tag & 0xfff : XG_VLAN_NONE;
	NEED(f, 0, 1, f->length, XG_MALFORMED_ETHERNET);
	u32 version = f->data[0] >> 4;
	*type = version == 4 ? ETHERTYPE_IPV4 : version == 6 ? ETHERTYPE_IPV6 : 0;
	return XG_REASON_NONE;
}

#endif
