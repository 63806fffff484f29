// XDP ingress: the verdict on every frame that an interface receives.
// -DXG_FRAGS: built for multi-buffer frames (Linux 5.18), loaded with BPF_F_XDP_HAS_FRAGS.
// -DXG_ACCOUNT: it also adds up whose frames they are.
#include "account.h"
#include "decide.h"

#ifdef XG_FRAGS
static u64 (*xdp_get_buff_len)(struct xdp_md *ctx) = (void *)188; // enum bpf_func_id
#define FRAME_LENGTH(ctx, data, end) xdp_get_buff_len(ctx)
#else
#define FRAME_LENGTH(ctx, data, end) ((end) - (data))
#endif

static __always_inline void swap_macs(u8 *frame)
{
	u16 *mac = (u16 *)frame;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		u16 half = mac[i];
		mac[i] = mac[i + 3];
		mac[i + 3] = half;
	}
}

static __always_inline u32 redirect(struct frame *f, struct blob b, u64 target)
{
	u32 ifindex = load32(b, target);
	if (load32(b, target + 4) && f->data + 14 <= f->end) {
		u16 *mac = (u16 *)f->data;
#pragma unroll
		for (int i = 0; i < 3; i++) {
			mac[i] = load16(b, target + __builtin_offsetof(struct xg_target, dst_mac) + i * 2);
			mac[i + 3] = load16(b, target + __builtin_offsetof(struct xg_target, src_mac) + i * 2);
		}
	}
	return redirect_map(MAP(XG_MAP_TARGETS), ifindex, XDP_ABORTED);
}

int xdpguard_ingress(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
	struct generation g;
	if (current_generation(&g))
		return XDP_ABORTED;
	struct xg_hook *hook = hook_of(&g, XG_INGRESS);
	struct frame f = {
		.data = data,
		.end = end,
		.length = FRAME_LENGTH(ctx, data, end),
		.hook = XG_INGRESS,
		.l3_device = NUMBER(XG_NUMBER_FLAGS) & XG_FLAG_L3_DEVICE,
		.drop_fragments = hook->drop_fragments,
	};
	struct pkt *p = packet_of(&g, XG_INGRESS);
	if (!parse_plain(&f, p)) {
		f.data = FRESH(ctx->data);
		f.end = FRESH(ctx->data_end);
		parse(&f, p);
	}
	FORGET;
	f.data = FRESH(ctx->data);
	f.end = FRESH(ctx->data_end);
	struct verdict v = decide(&g, XG_INGRESS, p);
	if (v.action == XG_TX) {
		if (may_bounce(&f))
			swap_macs(f.data);
		else
			refuse_tx(&v);
	} else if (v.action == XG_REDIRECT) {
		v.action = redirect(&f, g.blob, target_of(hook, &v));
	}
	HIDE(v.action, hook->zero); // so that what follows is checked once, not once a way
	HIDE(v.decider, hook->zero);
	count(g.cpu, hook->first_counter, p->protocol, v.action, v.decider, 1, f.length);
	ACCOUNT_FRAME(p, v.action, f.length);
	return v.action;
}
