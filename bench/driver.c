// Feeds the program under test: puts the next of 65,536 recorded headers into the frame, then tail-calls. One
// frame run over and over would keep every table line in the first cache.
struct header {
	u32 src, dst; // as on the wire
	u32 ports;
	u32 protocol;
};
BPF_ARRAY(cursor, u64, 1);
BPF_ARRAY(trace, struct header, 65536);
BPF_PROG_ARRAY(under_test, 1);

int driver(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
	int zero = 0;
	u64 *next = cursor.lookup(&zero);
	if (!next || data + 54 > end)
		return XDP_ABORTED;
	int at = *next & 0xffff;
	*next += 1;
	struct header *header = trace.lookup(&at);
	if (!header)
		return XDP_ABORTED;
	*(u32 *)(data + 26) = header->src;
	*(u32 *)(data + 30) = header->dst;
	*(u32 *)(data + 34) = header->ports;
	data[23] = header->protocol;
	under_test.call(ctx, 0);
	return XDP_ABORTED;
}

int empty(struct xdp_md *ctx)
{
	return XDP_PASS;
}
