// Feeds the program under test: puts the next of the recorded headers into the frame, then tail-calls. One frame run
// over and over would keep every table line in the first cache. Maps are placed by native.py.
#define CURSOR ((struct cursor *)bpf_pseudo_fd(2, BENCH_CURSOR))
#define TRACE ((u8 *)bpf_pseudo_fd(2, BENCH_TRACE))
#define XDP_TEST ((void *)bpf_pseudo_fd(1, BENCH_XDP_TEST))
#define TC_TEST ((void *)bpf_pseudo_fd(1, BENCH_TC_TEST))
#define ROW_MASK 0xffff // 65,536 rows
#define TC_OK 0
#define TC_FAILED 7

struct cursor {
	u64 next;
	u32 ifindex; // where live frames go
	u32 pad;
};
struct row4 {
	u32 src, dst; // as on the wire
	u32 ports;
	u8 protocol;
	u8 pad;
	u16 checksum; // of the IP header
};
struct row6 {
	u64 src[2], dst[2];
	u32 ports;
	u32 protocol;
	u64 pad;
};

static long (*tail_call)(void *ctx, void *map, u32 index) = (void *)12;
static long (*redirect)(u32 ifindex, u64 flags) = (void *)23;

static __always_inline void write4(u8 *data)
{
	u64 at = CURSOR->next++ & ROW_MASK;
	struct row4 *row = (struct row4 *)(TRACE + at * sizeof(*row));
	*(u16 *)(data + 24) = row->checksum;
	*(u32 *)(data + 26) = row->src;
	*(u32 *)(data + 30) = row->dst;
	*(u32 *)(data + 34) = row->ports;
	data[23] = row->protocol;
}

int driver_xdp4(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
	if (data + 54 > end)
		return XDP_ABORTED;
	write4(data);
	tail_call(ctx, XDP_TEST, 0);
	return XDP_ABORTED;
}

int driver_xdp6(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
	if (data + 74 > end)
		return XDP_ABORTED;
	u64 at = CURSOR->next++ & ROW_MASK;
	struct row6 *row = (struct row6 *)(TRACE + at * sizeof(*row));
	*(u64 *)(data + 22) = row->src[0];
	*(u64 *)(data + 30) = row->src[1];
	*(u64 *)(data + 38) = row->dst[0];
	*(u64 *)(data + 46) = row->dst[1];
	*(u32 *)(data + 54) = row->ports;
	data[20] = row->protocol;
	tail_call(ctx, XDP_TEST, 0);
	return XDP_ABORTED;
}

int driver_tc4(struct __sk_buff *skb)
{
	u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;
	if (data + 54 > end)
		return TC_FAILED;
	write4(data);
	tail_call(skb, TC_TEST, 0);
	return TC_FAILED;
}

// Of BPF_F_TEST_XDP_LIVE_FRAMES: frames that go out of a device.
int driver_live(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
	if (data + 54 > end)
		return XDP_ABORTED;
	write4(data);
	return redirect(CURSOR->ifindex, 0);
}

int floor_xdp(struct xdp_md *ctx)
{
	return XDP_PASS;
}

int floor_tc(struct __sk_buff *skb)
{
	return TC_OK;
}

int dropping_xdp(struct xdp_md *ctx)
{
	return XDP_DROP;
}
