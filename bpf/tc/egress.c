// TC egress (clsact, direct action): the verdict on every packet that leaves by an interface.
// -DXG_ACCOUNT: it also adds up whose packets they are.
#include "account.h"
#include "decide.h"

enum { TC_SHOT = 2, TC_UNSPEC = -1 }; // uapi/linux/pkt_cls.h
#define TO_INGRESS 1                  // BPF_F_INGRESS
#define PULLED 4096                   // more than almost every header chain

static __always_inline void set_macs(struct __sk_buff *skb, u16 *macs)
{
	bpf_skb_store_bytes(skb, 0, macs, 12, 0);
}

static __always_inline void swapped_macs(u8 *frame, u16 *macs)
{
	u16 *mac = (u16 *)frame;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		macs[i] = mac[i + 3];
		macs[i + 3] = mac[i];
	}
}

static __always_inline int redirect(struct __sk_buff *skb, struct blob b, u32 target)
{
	if (load32(b, target + 4)) {
		u16 macs[6];
#pragma unroll
		for (int i = 0; i < 3; i++) {
			macs[i] = load16(b, target + __builtin_offsetof(struct xg_target, dst_mac) + i * 2);
			macs[i + 3] = load16(b, target + __builtin_offsetof(struct xg_target, src_mac) + i * 2);
		}
		set_macs(skb, macs);
	}
	return bpf_redirect(load32(b, target), 0);
}

// Bytes and packets as they go over the wire: a GSO packet is cut later.
static __always_inline void count_skb(struct __sk_buff *skb, u8 *counters, struct pkt *p, struct verdict *v)
{
	u64 packets = skb->gso_segs ? skb->gso_segs : 1;
	u64 bytes = skb->wire_len;
	if (skb->vlan_present)
		bytes += packets * 4;
	count(counters, XG_EGRESS, p->protocol, v->action, v->decider, packets, bytes);
	ACCOUNT_SKB(skb, p, v->action, packets, bytes);
}

int xdpguard_egress(struct __sk_buff *skb)
{
	struct generation g;
	if (current_generation(&g))
		return TC_SHOT;
	struct xg_hook *hook = hook_of(&g, XG_EGRESS);
	struct frame f = {
		.length = skb->len,
		.hook = XG_EGRESS,
		.l3_device = NUMBER(XG_NUMBER_FLAGS) & XG_FLAG_L3_DEVICE,
		.drop_fragments = hook->drop_fragments,
		.tag_present = skb->vlan_present,
		.tag = skb->vlan_tci,
		.zero = hook->zero,
	};
	struct pkt p;
	u32 reason = XG_NEED_MORE;
	// Headers may lie outside the linear part; then one pull gets them there.
	for (int attempt = 0; attempt < 2; attempt++) {
		f.data = FRESH(skb->data);
		f.end = FRESH(skb->data_end);
		reason = parse(&f, &p);
		if (reason != XG_NEED_MORE || attempt)
			break;
		bpf_skb_pull_data(skb, f.length < PULLED ? f.length : PULLED);
	}
	f.data = FRESH(skb->data);
	f.end = FRESH(skb->data_end);
	if (reason == XG_NEED_MORE)
		reason = XG_MALFORMED_UNREADABLE;
	struct verdict v = decide(&g, hook, &p, reason);
	u16 macs[6] = {};
	if (v.action == XG_TX) {
		if (may_bounce(&f))
			swapped_macs(f.data, macs);
		else
			refuse_tx(&v);
	}
	count_skb(skb, g.counters, &p, &v);
	if (v.action == XG_PASS)
		return TC_UNSPEC; // filters behind ours still run
	if (v.action == XG_TX) { // as if the interface had received it
		set_macs(skb, macs);
		return bpf_redirect(skb->ifindex, TO_INGRESS);
	}
	if (v.action == XG_REDIRECT)
		return redirect(skb, g.blob, v.target);
	return TC_SHOT;
}
