// The kernel's longest-prefix tries and nothing else: no ports, no protocol, no order of rules, no counting.
#define SRC ((void *)bpf_pseudo_fd(1, BENCH_SRC_TRIE))
#define DST ((void *)bpf_pseudo_fd(1, BENCH_DST_TRIE))

struct key {
	u32 length;
	u32 address;
};

static void *(*look_up)(void *map, void *key) = (void *)1;

static __always_inline u32 found(void *map, u8 *address)
{
	struct key key = {32, *(u32 *)address};
	u32 *value = look_up(map, &key);
	return value ? *value : 0;
}

int two_tries(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
	if (data + 42 > end)
		return XDP_PASS;
	return found(SRC, data + 26) + found(DST, data + 30) == 0xfffffff0 ? XDP_DROP : XDP_PASS;
}

int one_trie(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
	if (data + 42 > end)
		return XDP_PASS;
	return found(SRC, data + 26) == 0xfffffff0 ? XDP_DROP : XDP_PASS;
}
