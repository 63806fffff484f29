// Frames that got the verdict tx or redirect from our XDP program and that the kernel then did not deliver.
// One raw tracepoint program for each event that tells of them (include/trace/events/xdp.h). They only count.
//
// -DXG_ARG_EVENT_NAME=N: the place of an argument among those of its event, by its name in the kernel's BTF. These
// have not changed since Linux 5.6, so that the kept bytecode is good for many kernels; offsets of fields differ from
// kernel to kernel and are NUMBERs.
#include "memory.h"

static long (*read_kernel)(void *to, u32 size, u64 from) = (void *)113; // bpf_probe_read_kernel

// Zero where the address cannot be read.
static __always_inline u64 field(u64 address, u64 offset, u32 size)
{
	u64 value = 0;
	if (read_kernel(&value, size, address + offset))
		return 0;
	return value;
}

static __always_inline int is_our_program(u64 program)
{
	volatile struct xg_delivery *first = map_at(MAP(XG_MAP_DELIVERY), 0);
	u64 aux = field(program, NUMBER(XG_NUMBER_PROG_AUX), 8);
	u32 id = field(aux, NUMBER(XG_NUMBER_AUX_ID), 4);
	return first && id && (id == first->program || id == first->former);
}

static __always_inline int is_our_device(u64 device)
{
	if (field(device, NUMBER(XG_NUMBER_DEVICE_IFINDEX), 4) != NUMBER(XG_NUMBER_IFINDEX))
		return 0;
	u64 net = field(device, NUMBER(XG_NUMBER_DEVICE_NET), 8);
	return field(net, NUMBER(XG_NUMBER_NET_INODE), 4) == NUMBER(XG_NUMBER_NETNS);
}

#define ADD(counter, packets)                                                               \
	do {                                                                                \
		struct xg_delivery *own = map_at(MAP(XG_MAP_DELIVERY), bpf_get_smp_processor_id()); \
		if (own)                                                                    \
			__sync_fetch_and_add(&own->counter, packets);                       \
	} while (0)

// The redirect failed before the target's queue: one frame, in both modes.
int xdpguard_redirect_err(struct bpf_raw_tracepoint_args *ctx)
{
	if (is_our_program(ctx->args[XG_ARG_REDIRECT_ERR_XDP]))
		ADD(redirect, 1);
	return 0;
}

// A queue of redirected frames was given to the target's driver. Whatever the driver's answer, `drops` is how many
// it did not take: all of them where it gave an error.
int xdpguard_devmap_xmit(struct bpf_raw_tracepoint_args *ctx)
{
	int drops = ctx->args[XG_ARG_DEVMAP_XMIT_DROPS];
	if (drops > 0 && is_our_device(ctx->args[XG_ARG_DEVMAP_XMIT_FROM_DEV]))
		ADD(redirect, drops);
	return 0;
}

// A queue of tx frames was sent. A veth has lost `drops` of them. Drivers built on libeth may keep them for later
// and tell of an exception as well: what is lost there cannot be known.
int xdpguard_bulk_tx(struct bpf_raw_tracepoint_args *ctx)
{
	int drops = ctx->args[XG_ARG_BULK_TX_DROPS];
	if (drops <= 0 || !is_our_device(ctx->args[XG_ARG_BULK_TX_DEV]))
		return 0;
	if (NUMBER(XG_NUMBER_BULK_TX_EXACT))
		ADD(tx, drops);
	else
		ADD(unclear, 1);
	return 0;
}

// A frame could not be sent. Generic mode says XDP_TX for a redirect too, and then names the target's device. Some
// drivers say XDP_REDIRECT when redirect_err has told of the frame already.
int xdpguard_exception(struct bpf_raw_tracepoint_args *ctx)
{
	if ((u32)ctx->args[XG_ARG_EXCEPTION_ACT] != XDP_TX || !is_our_program(ctx->args[XG_ARG_EXCEPTION_XDP]))
		return 0;
	if (is_our_device(ctx->args[XG_ARG_EXCEPTION_DEV]))
		ADD(tx, 1);
	else
		ADD(redirect, 1);
	return 0;
}
