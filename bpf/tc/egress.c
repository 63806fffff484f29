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

// The kernel takes an interface out of the device map when it goes: what has its index then is another one.
static __always_inline int is_gone(struct blob b, u64 target)
{
	return !map_at(MAP(XG_MAP_TARGETS), load32(b, target));
}

static __always_inline int redirect(struct __sk_buff *skb, struct blob b, u64 target)
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
static __always_inline void count_skb(struct __sk_buff *skb, struct xg_cpu *cpu, u64 base, struct pkt *p, struct verdict *v)
{
	u64 packets = skb->gso_segs ? skb->gso_segs : 1;
	u64 bytes = skb->wire_len;
	if (skb->vlan_present)
		bytes += packets * 4;
	count(cpu, base, p->protocol, v->action, v->decider, packets, bytes);
	ACCOUNT_SKB(skb, p, v->action, packets, bytes);
}

static __always_inline void refresh(struct __sk_buff *skb, struct frame *f)
{
	f->data = FRESH(skb->data);
	f->end = FRESH(skb->data_end);
}

// Headers may lie outside the linear part of a packet; then one pull gets them there. That costs a copy, so not where
// it is plain that all headers are in it.
static __always_inline void pull(struct __sk_buff *skb, struct frame *f)
{
	refresh(skb, f);
	u32 readable = f->end - f->data, wanted = f->length < PULLED ? f->length : PULLED;
	if (readable >= wanted || headers_are_in(f))
		return;
	bpf_skb_pull_data(skb, wanted);
	refresh(skb, f);
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
	};
	struct pkt *p = packet_of(&g, XG_EGRESS);
	refresh(skb, &f);
	if (!parse_plain(&f, p)) {
		pull(skb, &f);
		parse(&f, p);
	}
	FORGET;
	refresh(skb, &f);
	struct verdict v = decide(&g, XG_EGRESS, p);
	if (v.action == XG_TX && !may_bounce(&f))
		refuse_tx(&v);
	if (v.action == XG_REDIRECT && is_gone(g.blob, target_of(hook, &v)))
		v.action = XG_ABORTED;
	HIDE(v.action, hook->zero); // so that what follows is checked once, not once a way
	HIDE(v.decider, hook->zero);
	HIDE(v.target, hook->zero);
	count_skb(skb, g.cpu, hook->first_counter, p, &v);
	if (v.action == XG_PASS)
		return TC_UNSPEC; // filters behind ours still run
	refresh(skb, &f);
	if (v.action == XG_TX && may_bounce(&f)) { // as if the interface had received it
		u16 macs[6];
		swapped_macs(f.data, macs);
		set_macs(skb, macs);
		return bpf_redirect(skb->ifindex, TO_INGRESS);
	}
	if (v.action == XG_REDIRECT)
		return redirect(skb, g.blob, target_of(hook, &v));
	return TC_SHOT;
}
