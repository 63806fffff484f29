// The tables of a generation: what xdpguard/classify/ writes and the programs read. Included by abi.h, whose limits it
// uses; plain C, no BCC macros.
#ifndef XDPGUARD_TABLES_H
#define XDPGUARD_TABLES_H

// ---- the blob: one generation's tables for both hooks, then names that no program reads; one value ----------
// Offsets are bytes from the start of the blob, multiples of 8, so that a blob may be copied anywhere; what is read
// by the cache line starts on one. How they are searched is said in classify.h.
// What is known of an address, or of a pair of classes, in one word: the first rule that may apply, and where its
// further conditions are.
//   bits 0-19 the rule (XG_NO_RULE: none); 20-46 a condition's number, or an entry's if bit 47 (a list) is set;
//   50-63, of an address: its broad class, by which the rules of the other side's lists know it.
#define XG_RULE_MASK 0xfffff
#define XG_NO_RULE 0xfffff
#define XG_AT_SHIFT 20
#define XG_AT_MASK 0x7ffffff
#define XG_LIST_SHIFT 47
#define XG_BROAD_SHIFT 50
#define XG_MAX_BROAD 16384
// An entry of a list: bits 0-19 the rule, 20-46 its condition, 63 the last of its list.
// A condition: the lowest and the highest value of each lane of a packet's word. The guard bit above each lane is set
// in `high`, so that one subtraction compares all lanes.
struct xg_condition {
	__u64 low;
	__u64 high;
};
#define XG_LANE_SPORT 0  // 16 bits
#define XG_LANE_DPORT 17 // 16 bits
#define XG_LANE_L4 34    // 7 bits: a class of the L4 index
#define XG_LANE_VLAN 42  // 6 bits: a class of the VLAN id
#define XG_LANE_BROAD 49 // 14 bits: the broad class of the address on the other side
#define XG_LANE_GUARDS 0x8001020200010000
#define XG_MAX_L4_CLASSES 128
#define XG_MAX_VLAN_CLASSES 64
// An address tree: intervals in ascending order, four rows (IPv4) or three upper halves (IPv6) to a line, above them
// the highest address of each line, sixteen __u32 or eight __u64 to a line, and so on up to a single line. The index
// says for each stretch of addresses where in the tree its search begins.
#define XG_TREE_LEVELS 8
struct xg_tree {
	__u64 base;                  // where the first stretch begins, of the upper 64 bits of an IPv6 address
	__u32 shift;                 // a stretch is 2^shift addresses
	__u32 most;                  // number of the last stretch, which reaches to the highest address
	__u32 index;                 // offset of __u32 per stretch: node | levels between it and the leaves << 28
	__u32 leaves;                // offset of struct xg_row (IPv4), struct xg_leaf6 (IPv6)
	__u32 blocks;                // IPv6: offset of struct xg_block6
	__u32 lows;                  // IPv6: offset of __u64 low halves
	__u32 rows;                  // IPv6: offset of struct xg_row, one for each low half
	__u32 pad;
	__u32 level[XG_TREE_LEVELS]; // offset of each level, the lowest first
};
#define XG_NODE_MASK 0xfffffff
#define XG_NODE_SHIFT 28
struct xg_row { // an interval
	__u32 last; // IPv4: its highest address
	__u32 pair; // class among the rules that are specific on both sides; 0: none
	__u64 word; // as above
};
// Three upper halves of IPv6 addresses in which intervals end, and what is known of the addresses that each ends.
struct xg_leaf6 {
	__u64 high[3];
	__u64 word[3]; // as above; XG_SEARCH: steps of a binary search, 2^steps - 1 lower halves are compared
	__u32 pair[3]; // as above; XG_SEARCH: number of the first lower half and row
	__u32 kinds;   // two bits of each, the first one's the lowest; from bit 6 the number of the leaf's first block
};
#define XG_SAME 0   // all addresses alike
#define XG_BLOCK 1  // all but those of a block; the leaf's blocks are in the order of their upper halves
#define XG_SEARCH 2
#define XG_FIRST_BLOCK 6
struct xg_block6 { // of one upper half: the lower halves from first to last, and what is known of them
	__u64 first, last;
	__u64 word;
	__u32 pair;
	__u32 pad;
};
struct xg_addresses { // of one family
	__u32 fallback;   // the first rule that takes every packet of the family
	__u32 wide;       // the first rule that is found by bit vectors
	__u32 src_wide;   // offset of __u32 per broad class: offset of its class record
	__u32 dst_wide;
	struct xg_tree src, dst;
};
// A paged table: __u16 page[pages], then __u16 class[256] per distinct page.
struct xg_paged {
	__u32 pages;   // offset of __u16 page numbers
	__u32 entries; // offset of __u16 class numbers, 256 a page
	__u32 classes; // offset of class records: __u32 offset[XG_MAX_BLOCKS] of each block's vector: __u64 words that
	               // are not zero, then the words
	__u32 pad;
};
enum xg_small { XG_SPORT, XG_DPORT, XG_L4, XG_VLAN, XG_SMALL_DIMENSIONS = 4 };
struct xg_target { // of a redirect
	__u32 ifindex;
	__u32 rewrite; // 1: set both MACs
	__u8 src_mac[6];
	__u8 dst_mac[6];
	__u32 pad;
};
struct xg_hook {
	__u32 rules;            // number of rules
	__u32 default_action;   // XG_DROP or XG_PASS
	__u32 malformed_action; // XG_DROP or XG_PASS
	__u32 drop_fragments;
	__u32 actions;          // offset of __u16 per rule: action | target index << 8
	__u32 targets;          // offset of struct xg_target
	__u32 l4_classes;       // offset of __u8 per L4 index
	__u32 vlan_classes;     // offset of __u8 per VLAN id
	__u32 conditions;       // offset of struct xg_condition
	__u32 entries;          // offset of __u64 list entries
	__u32 pairs;            // offset of lines of four struct xg_pair
	__u32 pair_lines;
	__u32 wide_blocks;      // blocks of the bit vectors
	__u32 wide_rules;       // offset of __u32: bit number -> rule
	__u32 arp_fallback;     // the first rule that takes every ARP frame
	__u32 arp_wide;         // offset of the class record that all rules for ARP are in
	__u32 arp_first;        // the first of those rules
	__u32 first_counter;    // number of this hook's first counter: egress has what ingress leaves
	__u64 zero;             // always 0: see HIDE in memory.h
	struct xg_addresses ipv4, ipv6;
	struct xg_paged small[XG_SMALL_DIMENSIONS];
};
struct xg_pair {
	__u64 key;  // source class | destination class << 32; 0: free
	__u64 word; // as above
};
struct xg_blob {
	__u32 magic;
	__u32 abi_version;
	__u64 serial;           // 0: being written, not a generation
	__u32 bytes;            // used
	__u32 manifest;         // offset of the manifest: names for `stats` and `status`, never read by BPF
	__u32 manifest_bytes;
	__u32 pad;
	struct xg_hook hook[XG_HOOKS];
};
// Indices into the small dimensions. Ports: 0-65535, or ICMP type (as source port) and code (as destination port).
#define XG_PORT_PAGES 256
// L4: protocol number of IPv4, of IPv6, where no L4 header could be read (later fragments, other protocols); ARP; the
// flags byte of a TCP header behind IPv4, IPv6; protocol number of IPv4, of IPv6 with another header that was read.
#define XG_L4_IPV4 0
#define XG_L4_IPV6 256
#define XG_L4_ARP 512
#define XG_L4_TCP4 768
#define XG_L4_TCP6 1024
#define XG_L4_HEADER 1280 // + XG_L4_IPV4 or XG_L4_IPV6 + number
#define XG_L4_PAGES 7
#define XG_VLAN_NONE 4096
#define XG_VLAN_PAGES 17

#endif
