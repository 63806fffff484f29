// The common path of both hooks: control word -> generation -> parsed packet -> who decides and how.
#ifndef XDPGUARD_DECIDE_H
#define XDPGUARD_DECIDE_H

#include "classify.h"
#include "count.h"
#include "parse.h"

struct generation {
	struct blob blob;
	struct xg_cpu *cpu; // of this CPU
};

struct verdict {
	u64 action;  // enum xg_action
	u64 decider; // counter index: XG_COUNT_*
	u64 target;  // number of the target, for XG_REDIRECT
};

// The slot that decides: one read of the control word. Past its deadline the previous slot decides, without
// any process: nobody confirmed the new rules.
static __always_inline u32 deciding_slot(void)
{
	u64 word = *(volatile u64 *)bpf_pseudo_fd(2, XG_MAP_CONTROL);
	u64 deadline = word >> XG_WORD_DEADLINE_SHIFT;
	if (deadline && bpf_ktime_get_boot_ns() > deadline * 1000000)
		word >>= XG_WORD_PREVIOUS_SHIFT;
	return word & (XG_SLOTS - 1);
}

// -> 0, or -1 if a slot is empty: user space never leaves one so.
static __always_inline int current_generation(struct generation *g)
{
	u32 slot = deciding_slot();
	void *blobs = map_at(MAP(XG_MAP_BLOBS), slot);
	void *counters = map_at(MAP(XG_MAP_COUNTERS), slot);
	if (!blobs || !counters)
		return -1;
	g->blob.base = map_at(blobs, 0);
	g->cpu = map_at(counters, bpf_get_smp_processor_id());
	g->blob.mask = NUMBER(XG_NUMBER_BLOB_MASK);
	return g->blob.base && g->cpu ? 0 : -1;
}

static __always_inline struct xg_hook *hook_of(struct generation *g, u32 hook)
{
	return &((struct xg_blob *)g->blob.base)->hook[hook];
}

static __always_inline struct pkt *packet_of(struct generation *g, u32 hook)
{
	return (struct pkt *)(g->cpu->packets + hook * XG_PACKET_BYTES);
}

static __always_inline struct verdict decide(struct generation *g, u32 direction, struct pkt *p)
{
	struct xg_hook *hook = hook_of(g, direction);
	u32 reason = p->reason;
	struct verdict v = {XG_PASS, XG_COUNT_DEFAULT, 0};
	if (reason == XG_NEED_MORE)
		reason = XG_MALFORMED_UNREADABLE;
	if (reason) {
		v.action = reason == XG_FRAGMENT ? XG_DROP : hook->malformed_action;
		v.decider = XG_COUNT_REASONS + reason;
		return v;
	}
	u64 rule = XG_NO_RULE;
	if (hook->rules && p->protocol != XG_PROTO_NON_IP)
		rule = classify(g->blob, g->cpu, direction, hook, p);
	if (rule == XG_NO_RULE) {
		if (p->essential)
			v.decider = XG_COUNT_REASONS + XG_ESSENTIAL;
		else
			v.action = hook->default_action;
		return v;
	}
	rule &= 0x1ffff;
	u64 action = load16(g->blob, hook->actions + rule * 2);
	v.action = action & 0xff;
	v.decider = XG_COUNT_RULES + rule;
	v.target = action >> 8;
	return v;
}

// Offset of a redirect's target in the blob.
static __always_inline u64 target_of(struct xg_hook *hook, struct verdict *v)
{
	return hook->targets + v->target * sizeof(struct xg_target);
}

static __always_inline void refuse_tx(struct verdict *v)
{
	v->action = XG_DROP;
	v->decider = XG_COUNT_REASONS + XG_TX_REFUSED;
}

// A frame that may be sent back: it has MAC addresses, and neither is a group address (IEEE 802 I/G bit).
static __always_inline int may_bounce(struct frame *f)
{
	return !f->l3_device && f->data + 14 <= f->end && !((f->data[0] | f->data[6]) & 1);
}

#endif
