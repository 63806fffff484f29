// Passes everything. Attached to a native redirect target that has no XDP program: many drivers take redirected
// frames only while one is attached.
int xdpguard_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}
