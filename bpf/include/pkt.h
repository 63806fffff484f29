// What every parser step shares: the frame, the parsed packet, reading in network order. Included by l2.h, l4.h.
#ifndef XDPGUARD_PKT_H
#define XDPGUARD_PKT_H

#include "hash.h"
#include "memory.h"

enum { HOPOPTS = 0, ICMP = 1, TCP = 6, UDP = 17, ROUTING = 43, FRAGMENT = 44, AH = 51, ICMPV6 = 58, DSTOPTS = 60, SCTP = 132 };

// Not a reason: the header is in the frame but beyond the bytes that can be read directly.
#define XG_NEED_MORE 255

struct frame {
	u8 *data, *end;     // what can be read directly
	u64 length;         // the whole frame
	u32 hook;
	u32 l3_device;      // starts at the IP header
	u32 drop_fragments; // policy of the generation
	u32 tag_present;    // the outermost tag is in metadata
	u32 tag;            // its TCI
};

// What is known of the packet. It lies in the map of counters, not on the stack: the verifier does not follow what is
// in a map, so all ways through the parser look alike to it, and what comes behind FORGET is checked once, not
// once a way.
struct pkt {
	u32 protocol;  // enum xg_proto, as counted
	u32 family;    // 4, 6, or 0
	u32 reason;    // enum xg_reason, or XG_NEED_MORE
	u32 essential; // passes when no rule matches
	u32 l4, sport, dport, vlan; // indices into the small dimensions
	u64 src_high, src_low, dst_high, dst_low; // host order; an IPv4 address is in low
	// The header to read next: its offset and protocol number, the end of the packet as the IP header says.
	u32 at, number, stop;
	u32 first;         // of a packet in several fragments this is the first one
	u32 seen_fragment; // a fragment header was there
	u32 hop_limit;
};

// Of both addresses (`ends`, those of IPv4 together) and `rest`: what is remembered of a flow lies where its top bits say.
static __always_inline u64 flow_hash(struct pkt *p, u64 ends, u64 rest)
{
	u64 mixed = ends;
	if (p->family == 6)
		mixed = (p->src_high ^ p->dst_low) * XG_GOLDEN + (p->src_low ^ (p->dst_high << 32 | p->dst_high >> 32));
	mixed ^= rest << 13 | rest >> 51;
	return mixed * XG_GOLDEN;
}

// Keeps the compiler from carrying values of struct pkt over in registers.
#define FORGET asm volatile("" ::: "memory")

// A header of `bytes` at `at`: inside the packet and readable?
#define NEED(f, at, bytes, stop, reason)                     \
	do {                                                 \
		if ((at) + (bytes) > (stop))                 \
			return reason;                       \
		if ((f)->data + (at) + (bytes) > (f)->end)   \
			return XG_NEED_MORE;                 \
	} while (0)

static __always_inline u32 be16(u8 *p) { return bpf_ntohs(*(u16 *)p); }
static __always_inline u32 be32(u8 *p) { return bpf_ntohl(*(u32 *)p); }
static __always_inline u64 be64(u8 *p) { return __builtin_bswap64(*(u64 *)p); } // little-endian machines only

#endif
